"""Results: the table of the variants, best first. Not a stage of dvc.yaml; run by hand.

    python -m commands.results

The stage `compare` prints it, too, but DVC does not run that where nothing has changed.
"""

from commands.arguments import command_line
from commands.trained import note_untrained
from stages.compare.stage import table
from stages.shared.formats.predictions import Summary
from stages.shared.records.dataset import Dataset
from stages.shared.results.predicted import require_same
from stages.shared.results.variants import variant_names
from stages.shared.settings.reading import read
from stages.shared.settings.section import Split


def main() -> None:
    """Print the table.

    Raises:
        UserError: an evaluation is damaged, or of other records or another split.
    """
    command_line(__doc__).parse_args()
    summaries = {name: Summary.load(name) for name in variant_names()}
    require_same(summaries, Dataset.load(), read("evaluate.split", Split))
    print(table(summaries))
    note_untrained(summaries)
