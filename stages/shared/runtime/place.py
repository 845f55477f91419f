"""Where a stage stands in the pipeline: which of how many, and how long what follows took."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from stages.shared.runtime import seconds
from stages.shared.runtime.paths import PARAMS_FILE

PIPELINE_FILE = Path("dvc.yaml")


def told(stage: str) -> str:
    """A line about a stage, as DVC names it: `stage 7 of 21; those that follow took 2 min the last
    time`.

    The time is known if each of them, or one of the same kind, has run before.
    """
    if not stage:
        return ""
    try:
        every = names(*(yaml.safe_load(file.read_text()) for file in (PIPELINE_FILE, PARAMS_FILE)))
    except (OSError, KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError):
        # The stage `check` says what is wrong with params.yaml.
        return ""
    if stage not in every:
        return ""
    number = every.index(stage) + 1
    line, after = f"stage {number} of {len(every)}", every[number:]
    known = {name: taken for name in every if (taken := seconds.noted(name)) is not None}
    by_kind = [[t for n, t in known.items() if kind(n) == kind(name)] for name in after]
    if not after or not all(by_kind):
        return line
    left = sum(known.get(name, mean(alike)) for name, alike in zip(after, by_kind, strict=True))
    return f"{line}; those that follow took {duration(left)} the last time"


def names(pipeline: Mapping[str, Any], params: Mapping[str, Any]) -> list[str]:
    """The stages of dvc.yaml in the order in which `dvc repro` runs them."""
    found: list[str] = []
    for name, definition in pipeline["stages"].items():
        if "foreach" not in definition:
            found.append(name)
            continue
        given: Any = params
        for key in definition["foreach"].strip("${}").split("."):
            given = given[key]
        entries = given if isinstance(given, dict) else dict.fromkeys(given)
        found += [f"{name}@{entry}" for entry in parents_first(entries)]
    return found


def parents_first(entries: Mapping[str, Any]) -> list[str]:
    """The names of some entries, each after the one that it names as its parent."""
    found: dict[str, None] = {}

    def line(name: str, seen: tuple[str, ...] = ()) -> Iterator[str]:
        parent = entries[name].get("parent", "") if isinstance(entries[name], dict) else ""
        if parent in entries and parent not in seen:
            yield from line(parent, (*seen, name))
        yield name

    for name in entries:
        found |= dict.fromkeys(line(name))
    return list(found)


def kind(stage: str) -> str:
    """Of a stage of several, what they are."""
    return stage.partition("@")[0]


def duration(taken: float) -> str:
    """Seconds, such as `40 s`, `3 min` and `2 h 5 min`."""
    if taken < 60:
        return f"{taken:.0f} s"
    minutes = round(taken / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
