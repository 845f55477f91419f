"""Versions of the packages that decide which bytes a stage writes."""

import json
import os
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import filelock

from stages.shared.runtime import disk
from stages.shared.runtime.paths import REPORTS_DIR

# Keras's backends are packages of the same names.
NAMES = ("keras", "numpy", "pillow", "pycocotools", os.environ.get("KERAS_BACKEND") or "tensorflow")
# By stage, as DVC names it, the versions that it last ran under. Git keeps it, as it does dvc.lock.
PACKAGES_FILE = REPORTS_DIR / "packages.json"
LOCK_FILE = Path(".dvc/tmp/packages.lock")

Versions = dict[str, str]


def versions() -> Versions:
    """The version of each package that is installed."""
    found: Versions = {}
    for name in sorted(NAMES):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def noted() -> dict[str, Versions]:
    """The versions that each stage last ran under, by stage."""
    try:
        return json.loads(PACKAGES_FILE.read_text())
    except (FileNotFoundError, ValueError):
        # Git may have left the marks of a conflict in it.
        return {}


def note(stage: str) -> None:
    """Note the installed versions as those that a stage has run under."""
    for folder in (LOCK_FILE.parent, PACKAGES_FILE.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(LOCK_FILE):
        before = noted()
        now = before | {stage: versions()}
        if now != before:
            text = json.dumps(now, indent=1, sort_keys=True) + "\n"
            disk.replace(PACKAGES_FILE, lambda path: path.write_text(text))
