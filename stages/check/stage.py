"""Stage `check`: params.yaml follows the schema, all of it, before any other stage starts.

    params.yaml -> data/checked, data/taps/BACKBONE.json

DVC deletes a stage's outputs before it starts it, so a mistake must be found ahead of the stages
that have something to lose. The marker that it writes never changes, so a valid edit re-runs
nothing else. Which taps are stored changes with the heads; only `features` depends on it.
"""

from pathlib import Path

import yaml

from stages.backbone.settings import require_weights
from stages.check.schema import Params, read_all
from stages.prepare.sources import SOURCES
from stages.shared.formats import taps
from stages.shared.runtime import outputs, packages
from stages.shared.runtime.console import counted
from stages.shared.runtime.errors import UserError
from stages.shared.runtime.paths import LOCK_FILE, TAPS_DIR

MARK = Path("data/checked")


def check() -> str:
    """Validate params.yaml, and write the marker that later stages depend on and which taps are
    stored.

    Raises:
        UserError: names each key or value at fault and what would be right, or what is wrong with
            the folder of pictures.
    """
    params = read_all()
    root = params.dataset.root
    if not Path(root).is_dir():
        raise UserError(f"params.yaml: dataset.root is {root!r}, which is not a folder")
    for name, backbone in params.backbones.items():
        require_weights(backbone.weights, f"backbones.{name}.weights")
    source = SOURCES[params.dataset.source]
    source.check(params.dataset, params.seed)
    require_classes(params, source.labels(params.dataset).classes)
    note_upgrades()
    with outputs.writing(MARK, TAPS_DIR) as staging:
        staging.file(MARK).write_text("params.yaml follows its schema\n")
        folder = staging.folder(TAPS_DIR)
        for name, backbone in params.backbones.items():
            stored = taps.read_by(params.heads_on(name), backbone.strides)
            stored.write(folder / taps.file(name).name)
    return f"check: params.yaml is valid, {counted(len(params.variants), 'variant')}"


def require_classes(params: Params, classes: list[str]) -> None:
    """Fail on a class weight that is of no class.

    Raises:
        UserError: names it, and the classes.
    """
    own = {f"variants.{n}": v.training(params.train) for n, v in params.variants.items()}
    for key, settings in ({"train": params.train} | own).items():
        named = settings.class_weights if isinstance(settings.class_weights, dict) else {}
        if unknown := [name for name in named if name not in classes]:
            raise UserError(
                f"params.yaml: {key}.class_weights names {unknown[0]!r}, which is not a class; "
                f"the classes are {', '.join(classes)}"
            )


def note_upgrades() -> None:
    """Tell of stages whose outputs other versions of the packages have made."""
    installed, noted = packages.versions(), packages.noted()
    others = {stage: had for stage, had in noted.items() if had != installed}
    # Told once: nothing says whether the user has kept the outputs by `dvc commit` since.
    if "check" not in others or not LOCK_FILE.exists():
        return
    locked = yaml.safe_load(LOCK_FILE.read_text(encoding="utf-8"))["stages"]
    # The output of `check` is the same bytes under any version.
    stages = [stage for stage in others if stage in locked and stage != "check"]
    changes = {
        f"{name} {had} ({installed.get(name, 'another backend')} is used)"
        for stage in stages
        for name, had in others[stage].items()
        if had != installed.get(name)
    }
    if stages:
        print(
            f"note: {', '.join(stages)} ran with {', '.join(sorted(changes))}; "
            "`dvc repro --force` runs them again, `dvc commit` keeps their outputs"
        )
