"""Reading params.yaml. Of the keys that decide what a stage writes, it reads those that dvc.yaml
declares for it, and no other."""

import re
from pathlib import Path
from typing import Any, TypeVar, overload

import yaml

from stages.shared.runtime.errors import UserError
from stages.shared.runtime.paths import PARAMS_FILE
from stages.shared.settings.mistakes import validate
from stages.shared.settings.section import Section

# In the flow of a mapping, without quotes.
BARE_COLOUR = re.compile(r"[{,]\s*#[0-9a-fA-F]{6}")

AnySection = TypeVar("AnySection", bound=Section)
REQUIRED = object()


@overload
def read(key: str, schema: type[AnySection], path: Path = PARAMS_FILE) -> AnySection: ...
@overload
def read(key: str, schema: Any, path: Path = PARAMS_FILE, default: Any = REQUIRED) -> Any: ...
def read(key: str, schema: Any, path: Path = PARAMS_FILE, default: Any = REQUIRED) -> Any:
    """Read and check the value of one key, such as `train` or `variants.fcn8s`, and no other.

    Args:
        key: from the top of the file, with dots.
        schema: of the value: a section, or another type that pydantic knows.
        path: of the file.
        default: the value of a key that is not there.

    Raises:
        UserError: the key is missing, or names each key or value at fault and what would be right.
    """
    value: Any = load(path)
    for part in (parts := tuple(key.split("."))):
        if not isinstance(value, dict) or part not in value:
            if default is not REQUIRED:
                return default
            raise UserError(f"{path}: {key} is missing")
        value = value[part]
    return validate(schema, value, parts, path)


class OnceLoader(yaml.SafeLoader):
    """PyYAML takes the last of several keys of the same name; this refuses them, as DVC does."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping as it stands in the file, before others are merged into it."""
        node = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if (key.tag, key.value) in first:
                raise yaml.constructor.ConstructorError(
                    problem=f"line {line} has the key {key.value} again, after line "
                    f"{first[key.tag, key.value]}; remove one of them"
                )
            first[key.tag, key.value] = line
        return node


def load(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """The raw content of a parameter file, top-level keys to values.

    Raises:
        UserError: the file is missing, is not YAML, or is no mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=OnceLoader)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; copy one from profiles/") from None
    except (yaml.YAMLError, ValueError) as error:
        problem = " ".join(str(error).split()).replace('in "<unicode string>", line', "on line")
        bare_colour = BARE_COLOUR.search(problem)
        hint = "; a colour needs quotes, because # begins a comment" if bare_colour else ""
        raise UserError(f"{path} is not readable as YAML: {problem}{hint}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} has no keys; copy a file from profiles/")
    return content
