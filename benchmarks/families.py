"""What features and heads cost on one network of each family: `python -m benchmarks.families`.

Each is measured by `benchmarks.rates` in a process of its own, with random weights, which take the
same time. Writes families.json and families.md.
"""

import argparse
import json
import subprocess
import sys
from typing import Any

from benchmarks.workspace import ROOT
from stages.shared.results.pages import markdown
from stages.shared.runtime.console import figures

# The smallest of each family.
SMALLEST = (
    "vgg19",
    "efficientnet_lite0",
    "resnet50",
    "densenet121",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "efficientnet_v2_b0",
    "convnext_tiny",
)
HEADS = ("fcn8s", "mlp")
# What the seconds are scaled to.
PICTURES, EPOCHS = 1000, 20
# Pictures that are validated on, for each that is trained on, as of Oxford-IIIT Pet.
VALIDATED = 0.176


def main() -> None:
    """Read the command line, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=SMALLEST)
    parser.add_argument("--pictures", type=int, default=128, help="that are timed")
    parser.add_argument("--precision", default="float32")
    options = parser.parse_args()
    rates = {}
    for network in options.networks:
        given = ("--network", network, "--precision", options.precision)
        command = [sys.executable, "-m", "benchmarks.rates", *given]
        command += ["--pictures", str(options.pictures), "--validation", str(VALIDATED)]
        command += ["--heads", *HEADS]
        rates[network] = json.loads(subprocess.check_output(command, cwd=ROOT))
        print(f"{network}: {rates[network]['features_pictures_a_second']:.1f} pictures/s")
    (ROOT / "benchmarks/families.json").write_text(json.dumps(rates, indent=2) + "\n")
    text = table(rates)
    (ROOT / "benchmarks/families.md").write_text(text)
    print(text)


def table(rates: dict[str, dict[str, Any]]) -> str:
    """A row for each network, the fastest first."""
    rows = []
    for network, rate in rates.items():
        features = 1 / rate["features_pictures_a_second"]
        heads = [rate["heads"][name]["ms_a_picture_and_epoch"] / 1000 for name in HEADS]
        seconds = [PICTURES * features, *(PICTURES * EPOCHS * head for head in heads)]
        rows.append((sum(seconds), network, rate, features, heads, seconds))
    lines = [
        (
            network,
            figures(rate["gflop_a_picture"]),
            f"{rate['feature_bytes_a_picture'] / 1e6:.2f}",
            f"{1000 * features:.1f}",
            *(f"{1000 * head:.1f}" for head in heads),
            " + ".join(f"{part:.0f}" for part in seconds),
        )
        for _, network, rate, features, heads, seconds in sorted(rows, key=lambda row: row[0])
    ]
    first = next(iter(rates.values()))
    columns = ("network", "GFLOP", "MB", "features, ms", *(f"{n}, ms an epoch" for n in HEADS))
    return (
        f"On {first['device']}; {first['precision']}. A picture of 224 x 224: GFLOP, stored "
        "features of strides 8 to 32, time of its features, and of an epoch of each head, which "
        f"trains on a quarter of the pixels and validates on {VALIDATED} of a picture for each. "
        f"The last column is {PICTURES:,} pictures, their features and {EPOCHS} epochs of each "
        f"head.\n\n{markdown((*columns, 'seconds'), lines)}\n"
    )


if __name__ == "__main__":
    main()
