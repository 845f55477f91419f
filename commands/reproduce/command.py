"""Reproduce: does each stage write the same bytes again? Not a stage of dvc.yaml; run by hand.

    python -m commands.reproduce

A clone of the last commit, in a folder of its own, runs every stage by `dvc repro --force`; what
comes out is compared with the dvc.lock of that commit.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from commands.arguments import command_line
from commands.programs import require, run
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.paths import LOCK_FILE

# What a stage has written, by path: DVC's hash of it.
Outs = dict[str, str]


def reproduce() -> bool:
    """Run the last commit's pipeline in a clone and print which stages hold; whether all do.

    Raises:
        UserError: there is no commit with a dvc.lock, an input is not in the commit, or the
            pipeline fails in the clone.
    """
    with tempfile.TemporaryDirectory(prefix="reproduce-") as folder:
        clone = Path(folder) / "clone"
        run("git", "clone", "--quiet", ".", str(clone))
        if not (clone / LOCK_FILE).exists():
            raise UserError("the last commit has no dvc.lock: run `dvc repro` and commit it first")
        share_cache(clone)
        require_inputs(clone)
        expected = outs_by_stage(clone)
        run("dvc", "repro", "--force", cwd=clone)
        first = outs_by_stage(clone)
        if first == expected:
            return report(expected, first, "the last commit")
        # Another processor rounds differently, so compare two runs on this one.
        report(expected, first, "the last commit")
        print("\ndvc.lock may come from another machine; running again to compare on this machine:")
        run("dvc", "repro", "--force", cwd=clone)
        return report(first, outs_by_stage(clone), "the run before, on this machine")


def share_cache(clone: Path) -> None:
    """Check out in a clone what `dvc add` tracks, such as a folder of pictures, from this cache."""
    cache = subprocess.check_output(["dvc", "cache", "dir"], text=True).strip()
    run("dvc", "cache", "dir", "--quiet", "--local", str(Path(cache).resolve()), cwd=clone)
    for tracked in clone.rglob("*.dvc"):
        if tracked.is_file():
            run("dvc", "checkout", "--quiet", str(tracked.relative_to(clone)), cwd=clone)
    # What the stages write there goes with it: this project's run cache would take it for newer.
    run("dvc", "cache", "dir", "--quiet", "--local", "--unset", cwd=clone)


def require_inputs(clone: Path) -> None:
    """Fail on a file that a stage reads here, and that the clone does not have.

    Raises:
        UserError: names it, the stage and the way out.
    """
    for stage, file in inputs(locked(clone)):
        if not (clone / file).exists():
            raise UserError(
                f"{stage} reads {file}, which a clone of the last commit does not have; commit it, "
                f"or have DVC track it (`dvc add {file}`) and commit {file}.dvc; outside the "
                "project, name it by an absolute path"
            )


def inputs(stages: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """Each stage of dvc.lock, and each file here that it reads and that no stage writes."""
    outs = [Path(out["path"]) for entry in stages.values() for out in entry.get("outs", [])]
    for stage, entry in stages.items():
        for path in (Path(dep["path"]) for dep in entry.get("deps", [])):
            # An out, a file in one, or a folder that gathers some.
            if any(out in (path, *path.parents) or path in out.parents for out in outs):
                continue
            for file in (path, *path.rglob("*")):
                hidden = "__pycache__" in file.parts or file.name.startswith(".")
                if file.is_file() and not hidden:
                    yield stage, file


def locked(folder: Path) -> dict[str, Any]:
    """What dvc.lock says of each stage."""
    return yaml.safe_load((folder / LOCK_FILE).read_text(encoding="utf-8"))["stages"]


def outs_by_stage(folder: Path) -> dict[str, Outs]:
    """What dvc.lock says that each stage has written."""
    return {
        stage: {out["path"]: out["md5"] for out in entry.get("outs", [])}
        for stage, entry in locked(folder).items()
    }


def report(expected: dict[str, Outs], found: dict[str, Outs], what: str) -> bool:
    """Print for each stage whether its outs are the same; whether all are."""
    print(f"\nagainst {what}:")
    width = max(map(len, expected))
    holds = True
    for stage, outs in expected.items():
        again = found.get(stage, {})
        differing = [path for path, md5 in outs.items() if again.get(path) != md5]
        print(f"  {stage:<{width}}  {'differs: ' + ', '.join(differing) if differing else 'same'}")
        holds &= not differing
    print(f"{'every' if holds else 'not every'} stage writes the same bytes")
    return holds


def main() -> int:
    """Run the command; the exit code says whether every stage holds."""
    command_line(__doc__).parse_args()
    for program in ("dvc", "git"):
        require(program)
    return 0 if reproduce() else 1
