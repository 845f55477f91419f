"""evaluate: what it says of a variant, whatever its training was like."""

import csv
import json
from pathlib import Path

from stages.compare import stage as compare
from stages.evaluate import stage as evaluate
from stages.shared.formats.predictions import Summary
from tests.conftest import Project


def test_a_validation_loss_that_is_not_finite_leaves_the_summary_readable(in_project: Project):
    path = Path("reports/fcn8s/history.csv")
    rows = list(csv.DictReader(path.open()))
    rows[1]["val_loss"], rows[2]["val_loss"] = "inf", "nan"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    evaluate.evaluate("fcn8s")
    losses = [row["val_loss"] for row in Summary.load("fcn8s").history]
    assert losses == [float(rows[0]["val_loss"]), None, None]
    assert json.loads(Path("data/evaluation/fcn8s/summary.json").read_text())
    compare.compare()
    lines = Path("reports/comparison/curves.csv").read_text().splitlines()
    curves = list(csv.DictReader(lines))
    assert [row["val_loss"] for row in curves if row["variant"] == "fcn8s"][1:] == ["", ""]
