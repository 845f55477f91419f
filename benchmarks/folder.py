"""From a folder of pictures to a result: `python -m benchmarks.folder`.

Draws pictures of mixed sizes with masks, and times `python -m commands.new` and the `dvc repro`
that follows it, with the seconds that each stage says. Writes folder.json and folder.md.
"""

import argparse
import json
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from benchmarks.input import QUALITY
from benchmarks.rates import device
from benchmarks.workspace import ROOT, Workspace
from stages.prepare.sources import demo
from stages.shared.results.pages import markdown

SIDES = (240, 720)


def main() -> None:
    """Read the command line, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--epochs", type=int, help="of each training; default: what make new sets")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder) / "project", options.pictures, options.epochs)
    # Asked last: a backend that has a GPU keeps it.
    found["device"] = device()
    (options.out / "folder.json").write_text(json.dumps(found, indent=2) + "\n")
    (options.out / "folder.md").write_text(table(found))
    print(table(found))


def measure(folder: Path, pictures: int, epochs: int | None = None) -> dict[str, Any]:
    """Seconds of the two commands, and of the stages in the second."""
    workspace = Workspace(folder, yaml.safe_load((ROOT / "params.yaml").read_text()))
    workspace.copy("profiles")
    draw(folder / "data/pictures", pictures)
    new = workspace.run(sys.executable, "-m", "commands.new", "--force", "data/pictures")
    if epochs:
        set_epochs(folder / "params.yaml", epochs)
    repro = workspace.run("dvc", "repro")
    files = sorted(
        (folder / "reports/seconds").glob("*.json"), key=lambda path: path.stat().st_mtime
    )
    return {
        "pictures": pictures,
        "make new": new.seconds,
        "dvc repro": repro.seconds,
        "mean_iou": {
            file.parent.name: json.loads(file.read_text())["mean_iou"]
            for file in sorted((folder / "reports").glob("*/metrics.json"))
        },
        "stages": {file.stem: json.loads(file.read_text())["seconds"] for file in files},
    }


def set_epochs(path: Path, epochs: int) -> None:
    """Have every training of a params.yaml take so many."""
    params = yaml.safe_load(path.read_text())
    for training in (params["train"], *params["variants"].values()):
        training["epochs"] = epochs
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def draw(folder: Path, pictures: int) -> None:
    """Pictures, masks of labels, and the names of the classes."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    (folder / "classes.txt").write_text("\n".join(demo.CLASSES) + "\n")
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(draw_one, folder), range(pictures), chunksize=16))


def draw_one(folder: Path, number: int) -> None:
    """A picture of sides drawn by chance, and its mask."""
    height, width = np.random.default_rng(number).integers(*SIDES, size=2).tolist()
    image, mask = demo.draw((height, width), (number,))
    Image.fromarray(image).save(folder / f"images/{number:05d}.jpg", quality=QUALITY)
    Image.fromarray(mask).save(folder / f"masks/{number:05d}.png")


def table(found: dict[str, Any]) -> str:
    """A row for each command and stage."""
    rows = [("`make new`", f"{found['make new']:.1f}", "")]
    rows += [(f"`{stage}`", "", f"{seconds:.1f}") for stage, seconds in found["stages"].items()]
    rows += [
        ("`dvc repro`", f"{found['dvc repro']:.1f}", ""),
        ("both", f"{found['make new'] + found['dvc repro']:.0f}", ""),
    ]
    measured = ", ".join(f"{name} {iou:.3f}" for name, iou in found["mean_iou"].items())
    shown = markdown(("", "seconds", "of a stage"), rows)
    return (
        f"On {found['device']}. {found['pictures']:,} drawn pictures of {SIDES[0]} to "
        f"{SIDES[1]} pixels a side, 5 classes.\n\n{shown}\n\n"
        f"Mean IoU on the test split: {measured}.\n"
    )


if __name__ == "__main__":
    main()
