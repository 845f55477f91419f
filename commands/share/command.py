"""Share: push what is here to the remote, and what its runs wrote. Not a stage; run by hand.

    python -m commands.share

By DVC's run cache `dvc repro --pull` takes a colleague's results. `dvc push --run-cache` sends its
entries, but of the outs that they list not those that Git keeps (histories, metrics, plots), and a
run whose outs are not all there runs again. This sends them too.
"""

import subprocess

from dvc.repo import Repo, lock_repo

from commands.shared.runtime.errors import UserError


def main() -> None:
    """Push the outs in dvc.lock, the run cache, and the outs of its runs that Git keeps.

    Raises:
        UserError: `dvc push` failed; it has said why.
    """
    if subprocess.run(["dvc", "push", "--run-cache"], check=False).returncode:
        raise UserError("`dvc push --run-cache` failed; see above")
    with Repo() as repo, lock_repo(repo):
        for out in repo.index.outs:
            if not out.use_cache:
                # A run leaves them in the cache; those that came by Git are of no run made here.
                out.use_cache = True
                out.use_cache = not out.changed_cache()
        print(f"{repo.push()} more that Git keeps")
