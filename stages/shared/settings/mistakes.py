"""Mistakes in params.yaml, in the words of params.yaml."""

import difflib
import reprlib
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from stages.shared.runtime.errors import UserError
from stages.shared.settings.section import TAGS, Section

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict, _SHORT.maxstring = 2, 12, 12, 200


def validate(schema: Any, value: Any, where: tuple[str, ...], path: Path) -> Any:
    """Check a value of a parameter file.

    Args:
        schema: of the value, a section or another type that pydantic knows.
        value: what the file holds at the keys `where`.
        where: from the top of the file.
        path: of the file.

    Raises:
        UserError: lists all errors.
    """
    try:
        return TypeAdapter(schema).validate_python(value)
    except ValidationError as error:
        sentences = _sentences(error, value, where, schema)
    raise UserError("\n       ".join(f"{path}: {sentence}" for sentence in sentences))


def _sentences(
    error: ValidationError, value: Any, where: tuple[str, ...], schema: Any
) -> list[str]:
    """Pydantic's findings in the words of params.yaml, one sentence each."""
    findings = [(finding, _keys(finding["loc"], value)) for finding in error.errors()]
    missing = [keys for finding, keys in findings if finding["type"] == "missing"]
    sentences = []
    for finding, keys in findings:
        key = ".".join((*where, *keys))
        if finding["type"] == "missing":
            continue
        if finding["type"] == "extra_forbidden":
            known = _known_keys(keys, schema)
            near = difflib.get_close_matches(keys[-1], known, n=1, cutoff=0.5)
            missing = [m for m in missing if m != (*keys[:-1], *near)]
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
            sentences.append(f"{key} is not a key of the pipeline; {hint}")
        elif finding["type"] == "value_error":
            sentences.append(": ".join(filter(None, (key, str(finding["ctx"]["error"])))))
        elif finding["loc"][-1:] == ("[key]",):
            sentences.append(f"{key}: a name may contain only letters, digits, - and _")
        elif finding["type"].startswith("union_tag"):
            tag = finding["ctx"]["discriminator"].strip("'")
            *others, last = _tag_values(tag, keys, schema)
            wanted = " or ".join([", ".join(others), last])
            sentences.append(
                f"{key}.{tag} is {shown(finding['input'].get(tag))}; it should be {wanted}"
            )
        elif finding["type"] in ("model_type", "model_attributes_type"):
            wanted = ", ".join(_known_keys((*keys, ""), schema))
            sentences.append(
                f"{key} is {shown(finding['input'])}; it should hold the keys {wanted}"
            )
        else:
            wanted = finding["msg"].replace("Input should", "it should")
            wanted = wanted.replace("a valid string", "text")
            sentences.append(f"{key} is {shown(finding['input'])}; {wanted}")
    return sentences + [f"{'.'.join((*where, *keys))} is missing" for keys in missing]


def shown(value: Any) -> str:
    """A value as a message shows it: as Python writes it, cut where it is long or deep.

    With YAML aliases, a few lines can stand for an endless value.
    """
    return _SHORT.repr(value)


def _keys(location: tuple[str | int, ...], value: Any) -> tuple[str, ...]:
    """A pydantic location as the keys a user wrote, without its union tags and `[key]` marks."""
    keys, tagged = [], False
    for part in location:
        # A tag comes first where it decides, and may be a key there too.
        if not tagged and _is_tag(part, value):
            tagged = True
        elif isinstance(value, dict) and part in value:
            keys.append(str(part))
            value, tagged = value[part], False
        elif part != "[key]":
            keys.append(str(part))
    return tuple(keys)


def _is_tag(part: str | int, value: Any) -> bool:
    """Whether a part of a location is the value of a tag, by which pydantic chose a section."""
    return isinstance(value, dict) and part in [value.get(tag) for tag in TAGS]


def _known_keys(keys: tuple[str, ...], schema: Any) -> list[str]:
    """What the schema knows beside the last of `keys`."""
    models = _sections(keys[:-1], schema)
    return list(dict.fromkeys(field for model in models for field in model.model_fields))


def _tag_values(tag: str, keys: tuple[str, ...], schema: Any) -> list[str]:
    """The values that a tag of the section at `keys` may have, sorted."""
    fields = [model.model_fields.get(tag) for model in _sections(keys, schema)]
    return sorted({value for field in fields if field for value in get_args(field.annotation)})


def _sections(keys: tuple[str, ...], schema: Any) -> list[type[Section]]:
    """What may stand at `keys`, from where the schema begins."""
    models = _models(schema)
    for key in keys:
        annotations = [m.model_fields[key].annotation for m in models if key in m.model_fields]
        # A key that is no field is a name in a mapping (a variant's): its model is found already.
        models = [m for a in annotations for m in _models(a)] if annotations else models
    return models


def _models(annotation: Any) -> list[type[Section]]:
    """The sections that a type annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
