"""docs/parameters.md: what the schema says, and every key of it."""

import re
from collections.abc import Iterator

import pytest
import yaml

from docs import parameters
from stages.train.settings import Train
from tests.conftest import ROOT

PAGE = parameters.PAGE.read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `([\w.]+)` \| (.+) \|$", PAGE, re.MULTILINE))


def test_the_page_is_what_make_docs_writes():
    assert parameters.page() == PAGE


def keys(value: object, path: str = "") -> Iterator[str]:
    """The keys of a parameter file, dotted, down to those that have a row."""
    if path in ROWS or not isinstance(value, dict):
        yield path
    else:
        for name, inner in value.items():
            yield from keys(inner, f"{path}.{name}".strip("."))


@pytest.mark.parametrize("profile", ["demo", "folder", "pets"])
def test_every_key_of_a_profile_is_on_the_page(profile: str):
    """But tags, which are in the headings, and a variant's keys of `train`."""
    params = yaml.safe_load((ROOT / f"profiles/{profile}.yaml").read_text())
    settings = [setting for variant in params["variants"].values() for setting in variant.items()]
    params["variants"] = {"NAME": dict(settings)}
    entries = [entry for backbone in params["backbones"].values() for entry in backbone.items()]
    params["backbones"] = {"NAME": dict(entries)}
    elsewhere = {f"variants.NAME.{key}" for key in Train.model_fields}
    elsewhere |= {"dataset.source", "dataset.splits.by"}
    assert set(keys(params)) - elsewhere <= ROWS.keys()


def test_every_key_has_a_meaning_and_a_type():
    for key, row in ROWS.items():
        kind, _, _, meaning, _ = row.split(" | ")
        assert meaning, key
        assert kind != "any", key


def test_a_row_tells_type_range_default_meaning_and_readers():
    assert ROWS["train.warmup"].split(" | ") == [
        "number",
        "`0.0`",
        "at least 0, at most 1",
        "share of the steps in which the learning rate rises from 0.",
        "`train`",
    ]
    assert ROWS["variants.NAME.stride"].split(" | ")[2] == "`4`, `8`, `16`, `32`"


def test_a_key_is_read_by_stages_that_declare_it_depend_on_it_or_are_listed_by_it():
    assert parameters.readers("evaluate.split") == ["evaluate", "export", "compare"]
    assert parameters.readers("variants.NAME.epochs") == ["train@NAME", "compare"]
    assert parameters.readers("export.variants") == ["export"]
    assert parameters.readers("engine") == []
