"""Which variants are trained here."""

from collections.abc import Iterable

from stages.shared.runtime.paths import MODELS_DIR


def trained_variants() -> list[str]:
    """The variants that have been trained, by name."""
    return sorted(path.parent.name for path in MODELS_DIR.glob("*/head.json"))


def note_untrained(measured: Iterable[str]) -> None:
    """Print the variants that have results and no model: DVC removes a model as its training
    begins, and a training can be stopped."""
    for name in sorted(set(measured) - set(trained_variants())):
        print(
            f"note: {MODELS_DIR}/ has no {name}, so its results are of an earlier training; "
            "`dvc repro` trains it again"
        )
