"""Results: the table of the variants, best first. Not a stage of dvc.yaml; run by hand.

    python -m commands.results

The stage `compare` prints it, too, but DVC does not run that where nothing has changed.
"""

from commands.arguments import command_line
from stages.compare.stage import table
from stages.shared.formats.predictions import Summary
from stages.shared.results.variants import variant_names


def main() -> None:
    """Print the table.

    Raises:
        UserError: an evaluation is damaged.
    """
    command_line(__doc__).parse_args()
    print(table({name: Summary.load(name) for name in variant_names()}))
