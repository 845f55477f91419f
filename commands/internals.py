"""All that the commands use of DVC beyond its command line. Another version may change it:
tests/commands/test_internals.py says what then no longer works."""

from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo
from dvc_render.vega import VegaRenderer

from stages.shared.runtime.errors import UserError

TEMPLATES_DIR = Path(".dvc/plots")


def push_outs_of_git() -> int:
    """Push the outs that Git tracks, as far as a run left them in the cache; how many.

    Raises:
        UserError: the remote does not take them.
    """
    with Repo() as repo, lock_repo(repo):
        for out in repo.index.outs:
            if not out.use_cache:
                # Those that came by Git are of no run made here.
                out.use_cache = True
                out.use_cache = not out.changed_cache()
        try:
            return repo.push()
        except (DvcException, OSError) as error:
            raise UserError(f"the outs that Git tracks can't be pushed: {error}") from None


def filled_template(
    template: str, rows: list[dict[str, Any]], x: str, y: str, title: str = "", **labels: str
) -> dict[str, Any]:
    """A plot template of .dvc/plots/ with rows of one revision in it, in Vega-Lite."""
    data = [{"rev": "workspace"} | row for row in rows]
    renderer = VegaRenderer(
        data, title, template=template, template_dir=TEMPLATES_DIR, x=x, y=y, title=title, **labels
    )
    return renderer.get_filled_template()


def experiment_reference(commit: str, name: str) -> str:
    """Where Git has an experiment that started from a commit."""
    return f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"
