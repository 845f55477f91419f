"""How long each stage took when it last ran: no out of it, for another run takes another time."""

import json

from stages.shared.runtime import disk
from stages.shared.runtime.paths import REPORTS_DIR

# For each stage, as DVC names it, a file that `dvc metrics show` reads. Git ignores them.
SECONDS_DIR = REPORTS_DIR / "seconds"


def note(stage: str, seconds: float) -> None:
    """Note how long a stage took; what an interrupted run had done before is not counted."""
    SECONDS_DIR.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"seconds": round(seconds, 1)}) + "\n"
    disk.replace(SECONDS_DIR / f"{stage}.json", lambda path: path.write_text(text))


def noted(stage: str) -> float | None:
    """How long a stage took, in seconds, if that is known."""
    try:
        return json.loads((SECONDS_DIR / f"{stage}.json").read_text())["seconds"]
    except (FileNotFoundError, ValueError):
        return None
