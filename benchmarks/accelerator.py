"""The pipeline on this machine's accelerator: `KERAS_BACKEND=jax python -m benchmarks.accelerator`.

Two parts: rates of networks on arrays, beside the device's own peak; and a run of the stages on
drawn pictures of the number and size of Oxford-IIIT Pet, some trainings of it twice, to see whether
they write the same bytes. Under another backend than TensorFlow, TensorFlow need not be installed.
Writes accelerator.json and accelerator.md.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from benchmarks.input import ORIGINAL_SIZE, QUALITY
from benchmarks.workspace import ROOT, Workspace
from stages.prepare.sources import demo
from stages.shared.results.pages import markdown
from stages.shared.runtime import digests

NETWORKS = ("vgg19", "convnext_tiny", "efficientnet_lite0")
# Of Oxford-IIIT Pet, as profiles/pets.yaml divides it.
PICTURES = {"train": 3128, "validation": 552, "test": 3669}
# The notebook's heads, and those on real features.
NOTEBOOKS, OWN = ("fcn32s", "fcn16s", "fcn8s"), ("mlp",)
# Whose rates are measured, and which are trained once more.
MEASURED = ("fcn8s", "mlp")


def main() -> None:
    """Read the command line, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="*", default=NETWORKS)
    parser.add_argument("--pictures", type=int, default=4096, help="of the rates")
    parser.add_argument("--share", type=float, default=1.0, help="of Oxford-IIIT Pet; 0: no run")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--scratch", type=Path, help="where the scratch folder goes")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"rates": {}}
    for network in options.networks:
        found["rates"][network] = rates(network, options.pictures, options.precision)
        write(found, options.out)
    if options.share:
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            for found["run"] in run(Path(folder) / "pets", options.share, options.precision):
                write(found, options.out)
    print((options.out / "accelerator.md").read_text())


def rates(network: str, pictures: int, precision: str) -> dict[str, Any]:
    """What `benchmarks.rates` measures, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.rates", "--train-network"]
    command += [f"--network={network}", f"--pictures={pictures}", f"--precision={precision}"]
    command.append(f"--features-batch-size={params()['features']['batch_size']}")
    command += ["--heads", *MEASURED]
    return json.loads(subprocess.check_output(command, cwd=ROOT))


def run(folder: Path, share: float, precision: str) -> Iterator[dict[str, Any]]:
    """Seconds of each stage, after each, and then whether a training repeats itself."""
    counts = {split: round(share * pictures) for split, pictures in PICTURES.items()}
    workspace = Workspace(folder, params() | {"precision": precision})
    draw(folder / "data/pictures", counts)
    found: dict[str, Any] = {"pictures": counts, "seconds": {}, "repeated": {}}
    for command in stages():
        found["seconds"]["@".join(command)] = workspace.stage(*command).seconds
        yield found
    for name in MEASURED:
        before = contents(folder / "models" / name)
        workspace.stage("train", name)
        found["repeated"][name] = contents(folder / "models" / name) == before
        yield found


def stages() -> Iterator[tuple[str, ...]]:
    """The pipeline's with their arguments, in an order that their dependencies allow."""
    yield from (("check",), ("prepare",))
    yield from product(("backbone", "features"), ("vgg19", "lite0"))
    yield from product(("train", "evaluate"), (*NOTEBOOKS, *OWN))
    yield ("compare",)


def params() -> dict[str, Any]:
    """The notebook's heads on VGG19, and those of pets-quick.yaml on EfficientNet-Lite0."""
    content, quick = (
        yaml.safe_load((ROOT / f"profiles/{name}.yaml").read_text())
        for name in ("pets", "pets-quick")
    )
    kept = ("image_size", "fit", "shard_size", "bad_pictures")
    content["dataset"] = {
        "source": "folder",
        "root": "data/pictures",
        "pictures": "*.jpg",
        "masks": "*.png",
        "splits": {"by": "list", **{split: f"{split}.txt" for split in PICTURES}},
        "classes": dict(enumerate(demo.CLASSES)),
        "ignore": [],
        **{key: content["dataset"][key] for key in kept},
    }
    content["backbones"]["vgg19"]["weights"] = "random"
    content["backbones"] |= quick["backbones"]
    content["variants"] = {name: content["variants"][name] for name in NOTEBOOKS} | {
        name: quick["train"] | quick["variants"][name] for name in OWN
    }
    content["export"]["variants"] = []
    return content


def draw(folder: Path, counts: dict[str, int]) -> None:
    """Pictures and masks of the demo's generator, and a list of each split."""
    folder.mkdir(parents=True)
    # Each drawn one gives four.
    keys = range(-(-sum(counts.values()) // 4))
    with ProcessPoolExecutor() as pool:
        stems = [stem for four in pool.map(partial(draw_four, folder), keys) for stem in four]
    for split, pictures in counts.items():
        chosen, stems = stems[:pictures], stems[pictures:]
        (folder / f"{split}.txt").write_text("\n".join(chosen) + "\n")


def draw_four(folder: Path, key: int) -> list[str]:
    """A picture, and itself upside down and mirrored; their stems."""
    image, mask = demo.draw(ORIGINAL_SIZE, (key,))
    stems = []
    for number, (down, across) in enumerate(product((1, -1), (1, -1))):
        stems.append(f"{key:05d}-{number}")
        picture = Image.fromarray(image[::down, ::across])
        picture.save(folder / f"{stems[-1]}.jpg", quality=QUALITY)
        Image.fromarray(mask[::down, ::across]).save(folder / f"{stems[-1]}.png")
    return stems


def contents(folder: Path) -> dict[str, str]:
    """Digests of the files in a folder."""
    return {str(p.relative_to(folder)): digests.digest(p) for p in folder.rglob("*") if p.is_file()}


def write(found: dict[str, Any], out: Path) -> None:
    """Write what was measured so far, and its tables."""
    (out / "accelerator.json").write_text(json.dumps(found, indent=2) + "\n")
    (out / "accelerator.md").write_text("\n".join(tables(found)))


def tables(found: dict[str, Any]) -> Iterator[str]:
    """The rates, and the run."""
    if found["rates"]:
        yield rates_table(found["rates"])
    if "run" in found:
        yield run_table(found["run"])


def rates_table(found: dict[str, dict[str, Any]]) -> str:
    """A column for each network."""
    rows: list[tuple[str, ...]] = [
        ("GFLOP a picture", *(f"{rate['gflop_a_picture']:.1f}" for rate in found.values())),
    ]
    for what, key in (("features", "features"), ("training, augmented", "training")):
        for text, name, form in (
            (f"{what}: pictures a second", f"{key}_pictures_a_second", ",.0f"),
            (f"{what}: share of the peak", f"{key}_share_of_matrix_peak", ".0%"),
        ):
            rows.append((text, *(format(rate[name], form) for rate in found.values())))
    first = next(iter(found.values()))
    rows += [
        (
            f"{head}: ms a picture and epoch",
            *(f"{rate['heads'][head]['ms_a_picture_and_epoch']:.3f}" for rate in found.values()),
        )
        for head in first["heads"]
    ]
    return (
        f"On {first['device']}; Keras on {first['backend']}, {first['precision']}. Pictures of "
        f"224 x 224. The peak is that of a product of matrices, measured: "
        f"{first['matrix_tflops']:.0f} TFLOP/s. A head's epoch trains and validates on each "
        f"picture.\n\n{markdown(('', *found), rows)}\n"
    )


def run_table(found: dict[str, Any]) -> str:
    """A row for each stage."""
    rows = [(f"`{stage}`", f"{seconds:.1f}") for stage, seconds in found["seconds"].items()]
    rows.append(("all of these", f"{sum(found['seconds'].values()):.0f}"))
    size = f"{ORIGINAL_SIZE[1]} x {ORIGINAL_SIZE[0]}"
    text = (
        f"The stages on {sum(found['pictures'].values()):,} drawn pictures of {size}, as many as "
        f"Oxford-IIIT Pet has, each stage a process of its own.\n\n"
        f"{markdown(('stage', 'seconds'), rows)}\n"
    )
    for name, same in found["repeated"].items():
        text += f"\n`train@{name}`, run again, wrote {'the same' if same else 'other'} bytes."
    return f"{text}\n"


if __name__ == "__main__":
    main()
