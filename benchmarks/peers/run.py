"""`make benchmark-peers`: this pipeline against segmentation_models.pytorch, on this machine.

    python -m benchmarks.peers.run PYTHON [--seeds 3] [--peers fpn:adamw fpn:adamw:3 unet:published]

Takes the project's own records and those of its variants that stand on EfficientNet-Lite0 with
ImageNet's weights; the peers begin with the same weights and see the same splits. PYTHON is that of
the peers' environment (extras/peers.txt). Every seed is a training of its own, in a scratch folder.
Writes peers.json, peers.md and peers.png.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Container, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from matplotlib import colormaps
from matplotlib.figure import Figure

from benchmarks.workspace import ROOT, Cost, Workspace, device
from stages.shared.records.dataset import Dataset
from stages.shared.records.shards import PictureReader
from stages.shared.results import scores
from stages.shared.results.overlay import save
from stages.shared.results.pages import markdown
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.paths import DATASET_FILE, RECORDS_DIR, TAPS_DIR
from stages.shared.settings.section import SPLITS

BACKBONE = "efficientnet_lite0"
TRAIN_FILE = Path(__file__).with_name("train.py")
PIPELINE, PEER = "pipeline", "segmentation_models.pytorch"


class Run(NamedTuple):
    """One training, from the records to the class maps of the test split.

    Attributes:
        of: whose it is.
        name: of the variant, or of the architecture and the recipe.
        seed: of its random numbers.
        seconds: of all processes that it takes.
        peak_bytes: the largest resident set of them.
        mean_iou: on the test split, 0 to 1.
    """

    of: str
    name: str
    seed: int
    seconds: float
    peak_bytes: int
    mean_iou: float


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("python", type=Path, help="of the peers' environment")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--peers",
        nargs="*",
        default=["fpn:adamw:3", "fpn:adamw", "fpn:published", "unet:adamw", "unet:published"],
        metavar="ARCHITECTURE:RECIPE[:EPOCHS]",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks")
    parser.add_argument(
        "--go-on", action="store_true", help="keep what is still true of peers.json"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    dataset, machine, runs = Dataset.load(), device(), list[Run]()
    if dataset.tiling:
        raise UserError("dataset.fit is tiles: the peers are measured on records; use another")
    if options.go_on:
        runs += earlier(options.out / "peers.json", made_from(params, dataset))
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1, options.seeds + 1):
            done = {run.name for run in runs if run.seed == seed}
            for run in chain(
                of_pipeline(params, seed, Path(folder), done),
                of_peers(options.python, options.peers, seed, dataset, Path(folder), done),
            ):
                print(f"{run.of} {run.name}, seed {seed}: {run.mean_iou:.4f}, {run.seconds:.0f} s")
                runs.append(run)
                write(runs, params, dataset, options.out, machine)
    print(table(runs))


def made_from(params: dict[str, Any], dataset: Dataset) -> dict[str, Any]:
    """What decides the runs of the peer, and those of each variant of the pipeline, beside the
    code."""
    common = {key: params[key] for key in ("backbones", "features", "train")}
    of_variants = {
        name: common | {"records": dataset.digest, "line": line(params["variants"], name)}
        for name in params["variants"]
    }
    return {PIPELINE: of_variants, PEER: {"records": dataset.digest}}


def decides(made: dict[str, Any], run: Run) -> Any:
    """The part of `made_from` that a run follows; None if it names no such variant."""
    return made[PIPELINE].get(run.name) if run.of == PIPELINE else made[PEER]


def line(variants: dict[str, Any], name: str) -> dict[str, Any]:
    """A variant, its parent, and so on, by name."""
    variant = variants.get(name)
    return {name: variant} | line(variants, variant["parent"]) if variant else {}


def earlier(path: Path, wanted: dict[str, Any]) -> list[Run]:
    """The runs of an earlier file that were made from what these are made from."""
    if not path.exists():
        return []
    results = json.loads(path.read_text())
    runs = [Run(**run) for run in results["runs"]]
    former = results["made_from"]
    # Of a variant that is not there any more nothing is wanted.
    kept = [r for r in runs if decides(wanted, r) and decides(wanted, r) == decides(former, r)]
    print(f"{len(kept)} of the {len(runs)} runs in {path} are kept")
    return kept


def write(
    runs: list[Run], params: dict[str, Any], dataset: Dataset, out: Path, machine: str
) -> None:
    """Write what has been measured so far."""
    results: dict[str, Any] = {"device": machine, "size": dataset.image_size}
    results["made_from"] = made_from(params, dataset)
    results["pictures"] = {split: dataset.records(split) for split in SPLITS}
    results["runs"] = [run._asdict() for run in runs]
    (out / "peers.json").write_text(json.dumps(results, indent=2) + "\n")
    heading = (
        f"On {machine}. Seconds are those from the records to the measured class maps, of all "
        "processes, of the fastest of the seeds; GiB the largest of a process.\n"
    )
    (out / "peers.md").write_text(f"{heading}\n{table(runs)}\n")
    save(figure(runs), out / "peers.png")


def of_pipeline(
    params: dict[str, Any], seed: int, folder: Path, done: Container[str]
) -> Iterator[Run]:
    """The variants on EfficientNet-Lite0 that are not `done`, each after its parent."""
    found = [n for n, b in params["backbones"].items() if b["network"] == BACKBONE]
    if len(found) != 1:
        raise UserError(f"params.yaml: one entry of backbones should be {BACKBONE}")
    (backbone,) = found
    todo = dict[str, Any]()
    for name, variant in params["variants"].items():
        if variant["backbone"] == backbone and name not in done:
            todo |= line(params["variants"], name)
    if not todo:
        return
    params["evaluate"]["split"] = "test"
    work = Workspace(folder / f"pipeline-{seed}", params | {"seed": seed})
    shutil.copy(DATASET_FILE, work.folder / DATASET_FILE)
    for made in (RECORDS_DIR, TAPS_DIR):
        shutil.copytree(made, work.folder / made)
    taken = {backbone: [work.stage("backbone", backbone), work.stage("features", backbone)]}
    while todo:
        name = next(name for name, variant in todo.items() if variant["parent"] in taken)
        before = taken[todo.pop(name)["parent"]]
        taken[name] = [*before, work.stage("train", name)]
        costs = [*taken[name], work.stage("evaluate", name)]
        metrics = json.loads((work.folder / f"reports/{name}/metrics.json").read_text())
        if name not in done:
            yield measured(PIPELINE, name, seed, costs, metrics["mean_iou"])


def of_peers(
    python: Path,
    peers: Iterable[str],
    seed: int,
    dataset: Dataset,
    folder: Path,
    done: Container[str],
) -> Iterator[Run]:
    """Networks of the peer on the same pictures, but those that are `done`."""
    work = Workspace(folder / f"peers-{seed}", {})
    data, out = work.folder / "data.npz", work.folder / "out.npz"
    truth = write_pictures(dataset, data)
    classes = len(dataset.classes)
    for peer in peers:
        architecture, recipe, *epochs = peer.split(":")
        name = ", ".join((architecture, recipe, *(f"{n} epochs" for n in epochs)))
        if name in done:
            continue
        given = (str(data), str(out), architecture, recipe, str(seed), *epochs)
        cost = work.run(str(python.absolute()), str(TRAIN_FILE), *given)
        result = scores.score(scores.confusion(truth, np.load(out)["found"], classes))
        yield measured(PEER, name, seed, [cost], result.mean_iou)


def write_pictures(dataset: Dataset, path: Path) -> np.ndarray:
    """Write all splits as `train.py` reads them; the masks of the test split."""
    arrays: dict[str, Any] = {"classes": len(dataset.classes)}
    for split in SPLITS:
        reader = PictureReader(dataset, split)
        arrays[f"{split}_x"], arrays[f"{split}_y"] = reader.take(np.arange(len(reader)))
    np.savez(path, **arrays)
    return arrays["test_y"]


def measured(of: str, name: str, seed: int, costs: list[Cost], mean_iou: float) -> Run:
    """A training and what the processes took that it needs."""
    seconds = sum(cost.seconds for cost in costs)
    return Run(of, name, seed, round(seconds, 1), max(c.peak_bytes for c in costs), mean_iou)


def grouped(runs: Iterable[Run]) -> dict[tuple[str, str], list[Run]]:
    """The runs of each name, the pipeline's first."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.of != PIPELINE):
        groups.setdefault((run.of, run.name), []).append(run)
    return groups


def table(runs: Iterable[Run]) -> str:
    """A row for each name: means over the seeds, the spread of the mean IoU, the least seconds."""
    rows = []
    for (of, name), group in grouped(runs).items():
        ious = [run.mean_iou for run in group]
        # What else the machine does only adds to them.
        seconds = min(run.seconds for run in group)
        peak = max(run.peak_bytes for run in group) / 2**30
        spread = f"{min(ious):.4f} to {max(ious):.4f}"
        rows.append((of, name, f"{np.mean(ious):.4f}", spread, f"{seconds:.0f}", f"{peak:.1f}"))
    return markdown(("", "network", "mean IoU", "lowest to highest", "seconds", "GiB"), rows)


def figure(runs: Iterable[Run]) -> Figure:
    """Mean IoU over seconds, both from zero: the mean of the seeds, and how far they are apart."""
    drawn = Figure(figsize=(8, 5), layout="constrained")
    axis = drawn.subplots()
    colours = colormaps["tab20"]
    for number, ((of, name), group) in enumerate(grouped(runs).items()):
        marker = "o" if of == PIPELINE else "^"
        ious = [run.mean_iou for run in group]
        mean = float(np.mean(ious))
        apart = [[mean - min(ious)], [max(ious) - mean]]
        seconds = min(run.seconds for run in group)
        colour, label = colours(number % colours.N), f"{of}: {name}"
        axis.errorbar([seconds], [mean], apart, fmt=marker, c=colour, label=label, capsize=3)
    axis.set(xlabel="seconds", ylabel="mean IoU on the test split", xlim=(0, None), ylim=(0, 1))
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right", frameon=False)
    return drawn


if __name__ == "__main__":
    main()
