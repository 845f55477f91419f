"""Share: push the outputs and the run cache to the DVC remote. Not a stage; run by hand.

    python -m commands.share

With DVC's run cache, `dvc repro --pull` fetches a colleague's results. `dvc push --run-cache`
pushes its entries, but not the outs that Git tracks (histories, metrics, plots). Without them DVC
runs the stage again, so this command pushes them too.
"""

from commands.arguments import command_line
from commands.internals import push_outs_of_git
from commands.programs import run


def main() -> None:
    """Push the outs in dvc.lock, the run cache, and the outs of its runs that Git keeps.

    Raises:
        UserError: a push failed.
    """
    command_line(__doc__).parse_args()
    run("dvc", "push", "--run-cache")
    print(f"{push_outs_of_git()} more, of outs that Git tracks")
