"""Pages in HTML and Markdown, made by Jinja, and tables in Markdown."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(template: Path, **context: Any) -> str:
    """The page that a template makes; it may include files that lie beside it.

    Args:
        template: a Jinja template; what one of HTML shows is escaped.
        context: what it shows.
    """
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=".html" in template.suffixes,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template.name).render(context)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, its cells escaped so that none can end a cell or be taken for HTML."""
    lines = [head, ["---"] * len(head), *([_cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
