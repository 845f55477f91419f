"""Where a stage writes."""

import shutil
from pathlib import Path

# Each holds a folder for each variant.
MODELS_DIR = Path("models")
REPORTS_DIR = Path("reports")
EVALUATION_DIR = Path("data/evaluation")
# Without it Matplotlib would write its version into each picture.
PNG_METADATA = {"Software": None}


def fresh_folder(folder: Path) -> Path:
    """Empty a folder, or make it, and return it.

    What lies in it may be hard links into DVC's cache: it must be unlinked, not written over. DVC
    does so before it runs a stage; this is for a stage that is run by hand.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def fresh_file(file: Path) -> Path:
    """Unlink a file, if it is there, and return it; see `fresh_folder`."""
    file.unlink(missing_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    return file
