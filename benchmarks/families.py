"""What features and a head cost on one network of each family: `python -m benchmarks.families`.

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
# What the seconds are scaled to.
PICTURES, EPOCHS = 1000, 20


def main() -> None:
    """Read the command line, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=SMALLEST)
    parser.add_argument("--pictures", type=int, default=64, help="that are timed")
    parser.add_argument("--precision", default="float32")
    options = parser.parse_args()
    rates = {}
    for network in options.networks:
        given = ("--network", network, "--precision", options.precision)
        command = [sys.executable, "-m", "benchmarks.rates", *given]
        command += ["--pictures", str(options.pictures), "--heads", "fcn8s"]
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
        head = rate["heads"]["fcn8s"]["ms_a_picture_and_epoch"] / 1000
        seconds = PICTURES * features, PICTURES * EPOCHS * head
        rows.append((sum(seconds), network, rate, features, head, seconds))
    lines = [
        (
            network,
            figures(rate["gflop_a_picture"]),
            f"{rate['feature_bytes_a_picture'] / 1e6:.2f}",
            f"{1000 * features:.1f}",
            f"{1000 * head:.1f}",
            f"{seconds[0]:.0f} + {seconds[1]:.0f}",
        )
        for _, network, rate, features, head, seconds in sorted(rows, key=lambda row: row[0])
    ]
    first = next(iter(rates.values()))
    head_row = ("network", "GFLOP", "MB", "features, ms", "fcn8s, ms an epoch", "seconds")
    return (
        f"On {first['device']}; {first['precision']}. A picture of 224 x 224: GFLOP, stored "
        "features of strides 8 to 32, time of its features, and of an epoch of FCN-8s with its "
        f"validation. The last column is {PICTURES:,} pictures, their features and {EPOCHS} "
        f"epochs.\n\n{markdown(head_row, lines)}\n"
    )


if __name__ == "__main__":
    main()
