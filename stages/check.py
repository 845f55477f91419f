"""Stage `check`: params.yaml follows the schema, all of it, before anything else starts.

DVC deletes a stage's outs before it starts it, so a mistake must be found ahead of the stages that
have something to lose. What this stage writes never changes, so a valid edit re-runs nothing else.
"""

from pathlib import Path

from stages.shared import errors, outputs, params
from stages.shared.errors import UserError

MARK = Path("data/checked")


def check() -> None:
    """Validate params.yaml and leave a mark for the stages behind.

    Raises:
        UserError: names each key or value at fault and what would be right, or the folder of
            pictures that is not there.
    """
    root = params.read_all().dataset.root
    if not Path(root).is_dir():
        raise UserError(f"params.yaml: dataset.root is {root!r}, which is no folder")
    print("params.yaml is understood")
    with outputs.writing(MARK) as staging:
        staging.file(MARK).write_text("params.yaml follows stages/shared/params.py\n")


if __name__ == "__main__":
    errors.run_stage(check)
