"""`python -m docs.parameters` writes docs/parameters.md from the schema and dvc.yaml."""

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, get_args, get_origin

import docstring_parser
import yaml
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from stages.check.schema import Params
from stages.shared.settings.section import TAGS, Section
from stages.train.settings import Train, Variant

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/parameters.md"
# Stands for a variant's name.
NAME = "NAME"

INTRODUCTION = """# Parameters

All keys of `params.yaml`. `make docs` generates this page from the schema
(`stages/check/schema.py`); a test fails if it is out of date.

A key without a default is required. The last column lists the stages that read a key. A change of
the key runs these stages, and later stages if their dependencies have changed. `train@NAME` is the
stage of one variant, `train` that of every variant. `check` reads the whole file after every
change."""

HEAD = ("key", "type", "default", "range", "meaning", "read by")
# JSON Schema's words, and how they read here.
TYPES = {
    "boolean": "true or false",
    "integer": "whole number",
    "null": "`null`",
    "number": "number",
    "string": "text",
}
LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "pattern": "`{}`",
    "minItems": "entries: at least {}",
    "minProperties": "entries: at least {}",
    "maxProperties": "entries: at most {}",
}


def page() -> str:
    """The text of docs/parameters.md."""
    fields = Params.model_fields
    plain = [key for key, field in fields.items() if not sections(field.annotation)]
    top = table(row(Params, name, name) for name in plain)
    parts = [INTRODUCTION, "## Top level", top]
    for key, field in fields.items():
        if key not in plain:
            path = f"{key}.{NAME}" if get_origin(field.annotation) is dict else key
            parts += described(path, sections(field.annotation))
    # What several sources have is told once.
    return "\n\n".join(dict.fromkeys(parts)) + "\n"


def described(path: str, models: list[type[Section]]) -> Iterator[str]:
    """What may stand at `path`: what all models have in common, then what each has of its own."""
    common = next(c for c in models[0].__mro__ if all(issubclass(m, c) for m in models))
    if common is not Section:
        yield f"## `{path}`"
        yield from contents(path, common, before=Section)
    for model in models if len(models) > 1 else ():
        tag = next(tag for tag in TAGS if tag in model.model_fields)
        values = get_args(model.model_fields[tag].annotation)
        yield f"### `{path}`, {' or '.join(f'`{tag}: {value}`' for value in values)}"
        yield from contents(path, model, before=common)


def contents(path: str, model: type[Section], before: type[Section]) -> Iterator[str]:
    """A section's description, a table of its keys, and what lies deeper.

    Left out are tags, which the headings name, keys that are as `before` has them, and those that a
    variant has of `train`.
    """
    yield (docstring_parser.parse(model.__doc__ or "").description or "").strip()
    rows: list[list[str]] = []
    deeper: list[str] = []
    for name, field in model.model_fields.items():
        known = before.model_fields.get(name)
        same = known is not None and known.annotation == field.annotation
        if same or name in TAGS or (model is Variant and name in Train.model_fields):
            continue
        inner = sections(field.annotation)
        if len(inner) > 1:
            deeper += described(f"{path}.{name}", inner)
        elif inner:
            otherwise = meaning(model, name)
            keys = inner[0].model_fields
            rows += [row(inner[0], key, f"{path}.{name}.{key}", otherwise) for key in keys]
        else:
            rows.append(row(model, name, f"{path}.{name}"))
    if rows:
        yield table(rows)
    yield from deeper


def row(model: type[Section], name: str, path: str, otherwise: str = "") -> list[str]:
    """What is known of a key; `otherwise` is its meaning if the model's docstring gives none."""
    field = model.model_fields[name]
    schema = TypeAdapter(field.rebuild_annotation()).json_schema()
    return [
        f"`{path}`",
        " or ".join(dict.fromkeys(kinds(schema))),
        default(field),
        ", ".join(dict.fromkeys(limits(schema))),
        meaning(model, name) or otherwise,
        ", ".join(f"`{stage}`" for stage in readers(path)) or "none: it does not affect results",
    ]


def sections(annotation: Any) -> list[type[Section]]:
    """The sections that a type annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [model for part in get_args(annotation) for model in sections(part)]


def meaning(model: type[Section], name: str) -> str:
    """What the docstring of the model, or of one that it extends, says of an attribute."""
    told = [
        " ".join((attribute.description or "").split())
        for cls in takewhile(lambda c: c is not Section, model.__mro__)
        for attribute in docstring_parser.parse(cls.__doc__ or "").params
        if attribute.arg_name == name
    ]
    return told[0] if told else ""


def default(field: FieldInfo) -> str:
    """A key's default as params.yaml would have it; empty for a key that has to be there."""
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def kinds(schema: dict[str, Any]) -> Iterator[str]:
    """The types that a JSON schema allows, in words."""
    for choice in schema.get("anyOf", [schema]):
        inner = " or ".join(kind for entry in islice(nested(choice), 1) for kind in kinds(entry))
        if "enum" in choice or "const" in choice:
            yield "choice"
        elif "prefixItems" in choice:
            yield f"list of {len(choice['prefixItems'])} {inner}s"
        elif choice.get("type") == "array":
            yield f"list of {inner}s"
        elif choice.get("type") == "object":
            yield f"mapping to {inner}"
        else:
            yield TYPES.get(choice.get("type", ""), "any")


def limits(schema: dict[str, Any]) -> Iterator[str]:
    """What a JSON schema allows of its types, in words."""
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    yield from (f"`{value}`" for value in values)
    for word, sentence in LIMITS.items():
        if word in schema and not (word == "minItems" and "prefixItems" in schema):
            yield sentence.format(schema[word])
    yield from (f"`{pattern}`" for pattern in schema.get("patternProperties", ()))
    for part in (*schema.get("anyOf", ()), *nested(schema)):
        yield from limits(part)


def nested(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas of the entries of a list or mapping."""
    yield from schema.get("prefixItems", ())
    yield from schema.get("patternProperties", {}).values()
    entries = (schema.get("items"), schema.get("additionalProperties"))
    yield from (entry for entry in entries if isinstance(entry, dict))


def readers(key: str) -> list[str]:
    """The stages of dvc.yaml that read a key: as a parameter, in a dep, as the list of stages."""
    found = []
    for stage, entry in pipeline()["stages"].items():
        definition = entry.get("do", entry)
        named = re.findall(r"\$\{([\w.]+)\}", " ".join(map(str, definition["deps"])))
        named += definition.get("params", [])
        own = [re.sub(r"\$\{(key|item)\}", NAME, name) for name in named]
        reached = [name for name in own if f"{key}.".startswith(f"{name}.")]
        if reached or entry.get("foreach") == f"${{{key}}}":
            found.append(f"{stage}@{NAME}" if reached and NAME in reached[0] else stage)
    return found


@cache
def pipeline() -> dict[str, Any]:
    """What dvc.yaml holds."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    return content


def table(rows: Iterable[list[str]]) -> str:
    """A table in Markdown."""
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
