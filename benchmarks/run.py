"""`make benchmark`: the pipeline against the notebook's way, on this machine.

    python -m benchmarks.run                  # everything; writes results.json and results.md
    python -m benchmarks.run --backend jax    # features and training alone, on arrays

Works in a scratch folder, on pictures that the demo's generator draws, with a random VGG19 of full
width at the notebook's picture size.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks import report
from benchmarks.workspace import ROOT, Cost, Workspace

HEADS = ("fcn32s", "fcn16s", "fcn8s")
TEST_PICTURES = 32
VALIDATION_SHARE = 0.15
# `train.pixels` of every profile but the notebook's.
PIXELS = 0.25


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"))
    parser.add_argument("--pictures", type=int, default=1000, help="of the largest run")
    parser.add_argument("--growth", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--recomputed", type=int, default=192, help="pictures that are timed so")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--scratch", type=Path, help="where the scratch folder goes")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks")
    options = parser.parse_args()
    if options.backend:
        print(json.dumps(rates(options, options.backend), indent=2))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        results = measure(options, Path(folder))
    (options.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    table = report.markdown(results)
    (options.out / "results.md").write_text(table)
    print(table)


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Everything, the largest run last, for the rest is done in its workspace."""
    growth = []
    for times in options.growth:
        pictures = options.pictures * times // options.growth[-1]
        say(f"pipeline, {pictures} pictures")
        workspace = Workspace(scratch / f"x{times}", params(options, pictures))
        growth.append({"pictures": pictures} | pipeline(workspace))
    say(f"heads, {PIXELS:g} of the pixels")
    sampled = with_pixels(workspace, PIXELS)
    say("the notebook's way")
    recomputed = recompute(workspace, options)
    say("nothing to do")
    repro = nothing_to_do(workspace)
    say("input")
    workspace.run(sys.executable, "-m", "benchmarks.input", "input.json")
    reading = json.loads((workspace.folder / "input.json").read_text())
    say("rates on arrays")
    return {
        "options": {key: getattr(options, key) for key in ("epochs", "image_size", "width")},
        "rates": rates(options, "tensorflow"),
        "growth": growth,
        "sampled": sampled,
        "recomputed": recomputed,
        "input": reading,
        "bytes": sizes(workspace, growth[-1]["pictures"] + TEST_PICTURES),
        "repro": repro,
    }


def params(options: argparse.Namespace, pictures: int) -> dict[str, Any]:
    """params.yaml for so many pictures: the notebook's settings, the demo's generator."""
    content = yaml.safe_load((ROOT / "profiles/pets.yaml").read_text())
    demo = yaml.safe_load((ROOT / "profiles/demo.yaml").read_text())
    validation = round(pictures * VALIDATION_SHARE)
    splits = {"train": pictures - validation, "validation": validation, "test": TEST_PICTURES}
    content["dataset"] = demo["dataset"] | {
        "image_size": options.image_size,
        "shard_size": 512,
        "splits": splits,
    }
    content["backbones"]["vgg19"] |= {"weights": "random", "width": options.width}
    content["train"]["epochs"] = options.epochs
    content["variants"] = {name: content["variants"][name] for name in HEADS}
    content["export"]["variants"] = []
    return content


def pipeline(workspace: Workspace) -> dict[str, Any]:
    """Cost of each stage up to the trained heads, each a process of its own."""
    costs = {name: workspace.stage(name) for name in ("check", "prepare")}
    costs |= {name: workspace.stage(name, "vgg19") for name in ("backbone", "features")}
    costs |= trained(workspace)
    return {
        "seconds": {name: cost.seconds for name, cost in costs.items()},
        "peak_bytes": {name: cost.peak_bytes for name, cost in costs.items()},
    }


def trained(workspace: Workspace) -> dict[str, Cost]:
    """Cost of the training of each head, by its stage."""
    return {f"train@{name}": workspace.stage("train", name) for name in HEADS}


def with_pixels(workspace: Workspace, share: float) -> dict[str, Any]:
    """Seconds of each head, trained anew with this share of the pixels in a step's loss."""
    content = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    content["train"]["pixels"] = share
    workspace.set_params(content)
    seconds = {name: cost.seconds for name, cost in trained(workspace).items()}
    return {"pixels": share, "seconds": seconds}


def recompute(workspace: Workspace, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of an epoch of each head with the backbone run on every step."""
    validation = round(options.recomputed * VALIDATION_SHARE)
    module = (sys.executable, "-m", "benchmarks.recompute")
    counts = (f"--train={options.recomputed - validation}", f"--validation={validation}")
    workspace.run(*module, *counts, log="recompute.txt")
    printed = (workspace.folder / "recompute.txt").read_text()
    return json.loads(printed[printed.index("{") :])


def nothing_to_do(workspace: Workspace) -> dict[str, float]:
    """Seconds of `dvc repro` when all is done, and after one key of the finest head changed."""
    for name in HEADS:
        workspace.stage("evaluate", name)
    workspace.stage("compare")
    # What the stages wrote counts as DVC's own run of them.
    workspace.run("dvc", "commit", "--force", "--quiet")
    unchanged = workspace.run("dvc", "repro")
    content = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    content["variants"]["fcn8s"]["dropout"] = 0.25
    workspace.set_params(content)
    return {"unchanged": unchanged.seconds, "one key": workspace.run("dvc", "repro").seconds}


def sizes(workspace: Workspace, pictures: int) -> dict[str, Any]:
    """Bytes of what the largest run has stored; of the heads, what they add to the backbone."""
    backbone = workspace.size("models/vgg19")
    every = workspace.size("models/vgg19", *(f"models/{name}" for name in HEADS))
    return {
        "pictures": pictures,
        "records": workspace.size("data/records"),
        "features": workspace.size("data/features"),
        "backbone": backbone,
        "heads": every - backbone,
    }


def rates(options: argparse.Namespace, backend: str) -> dict[str, Any]:
    """What `benchmarks.rates` measures under a backend."""
    command = [sys.executable, "-m", "benchmarks.rates"]
    command += [f"--image-size={options.image_size}", f"--width={options.width}"]
    command.append(f"--validation={VALIDATION_SHARE / (1 - VALIDATION_SHARE)}")
    environment = os.environ | {"KERAS_BACKEND": backend}
    done = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def say(what: str) -> None:
    """Tell what is being measured."""
    print(f"measuring: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
