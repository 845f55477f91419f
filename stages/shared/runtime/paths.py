"""Where the outputs of the stages lie; dvc.yaml names the same paths."""

from pathlib import Path

# The first folders of all of them.
OUTPUT_FOLDERS = ("data", "models", "reports")
# In which DVC notes what they were made from.
LOCK_FILE = Path("dvc.lock")
PARAMS_FILE = Path("params.yaml")

RECORDS_DIR = Path("data/records")
DATASET_FILE = Path("data/dataset.json")
EXPORT_DIR = Path("models/export")
# Holds a file for each backbone.
TAPS_DIR = Path("data/taps")
# Holds a folder for each backbone, with one for each kind of reader.
FEATURES_DIR = Path("data/features")
# Holds a folder for each backbone and for each variant.
MODELS_DIR = Path("models")
# Each holds a folder for each variant.
REPORTS_DIR = Path("reports")
EVALUATION_DIR = Path("data/evaluation")


def maker(path: Path) -> str:
    """The stage that writes a file, as DVC names it; `STAGE` for a file of none."""
    match path.parts:
        case ("data", "taps", *_):
            return "check"
        case ("data", "records" | "dataset.json", *_):
            return "prepare"
        case ("data", "features", backbone, *_):
            return f"features@{backbone}"
        case ("data", "evaluation", variant, *_):
            return f"evaluate@{variant}"
        case ("models", backbone, "backbone.json" | "backbone.weights.h5"):
            return f"backbone@{backbone}"
        case ("models", variant, *_) | ("reports", variant, "history.csv"):
            return f"train@{variant}"
        case ("reports", variant, "metrics.json" | "confusion.csv"):
            return f"evaluate@{variant}"
    return "STAGE"
