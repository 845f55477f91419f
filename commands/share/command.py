"""Share: push the outputs and the run cache to the DVC remote. Not a stage; run by hand.

    python -m commands.share

With DVC's run cache, `dvc repro --pull` fetches a colleague's results. `dvc push --run-cache`
pushes its entries, but not the outs that Git tracks (histories, metrics, plots). Without them DVC
runs the stage again, so this command pushes them too.
"""

from dvc.repo import Repo, lock_repo

from commands.programs import run


def main() -> None:
    """Push the outs in dvc.lock, the run cache, and the outs of its runs that Git keeps.

    Raises:
        UserError: `dvc push` failed; its own message says why.
    """
    run("dvc", "push", "--run-cache")
    with Repo() as repo, lock_repo(repo):
        for out in repo.index.outs:
            if not out.use_cache:
                # A run leaves them in the cache; those that came by Git are of no run made here.
                out.use_cache = True
                out.use_cache = not out.changed_cache()
        print(f"{repo.push()} more, of outs that Git tracks")
