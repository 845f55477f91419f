"""benchmarks.families: features and heads on one network of each family, the cheapest first."""

from benchmarks.families import SMALLEST, table
from stages.shared.networks.families.table import NETWORKS


def rate(features: float, fcn8s: float, mlp: float) -> dict:
    return {
        "device": "a machine",
        "precision": "float32",
        "gflop_a_picture": 2.0,
        "feature_bytes_a_picture": 1_500_000,
        "features_pictures_a_second": features,
        "heads": {
            "fcn8s": {"ms_a_picture_and_epoch": fcn8s},
            "mlp": {"ms_a_picture_and_epoch": mlp},
        },
    }


def test_a_row_has_the_seconds_of_a_thousand_pictures_and_twenty_epochs():
    text = table({"vgg19": rate(2.5, 4.0, 9.0), "efficientnet_lite0": rate(40.0, 2.0, 7.0)})
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    lite0, vgg19 = (row for row in rows if row and row[0] in NETWORKS)
    assert lite0 == ["efficientnet_lite0", "2", "1.50", "25.0", "2.0", "7.0", "25 + 40 + 140"]
    assert vgg19 == ["vgg19", "2", "1.50", "400.0", "4.0", "9.0", "400 + 80 + 180"]
    assert "a machine; float32" in text


def test_every_network_is_one_of_the_table():
    assert set(SMALLEST) <= set(NETWORKS)
