"""Results: the table of the variants, best first. Not a stage of dvc.yaml; run by hand.

    python -m commands.results

The stage `compare` prints it, too, but DVC does not run that where nothing has changed.
"""

from commands import arguments
from stages.compare.stage import table
from stages.shared.formats.predictions import Summary
from stages.shared.results.variants import variant_names


def main() -> None:
    """Print the table.

    Raises:
        UserError: an evaluation is damaged.
    """
    arguments.none(__doc__)
    print(table({name: Summary.load(name) for name in variant_names()}))
