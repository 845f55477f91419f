"""What every section of params.yaml is made of."""

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

SPLITS = ("train", "validation", "test")
# Keys whose value decides which keys belong beside it.
TAGS = ("source", "by")

Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
# Not strict: PyYAML reads 1e-3, which DVC takes for a number, as a string.
Share = Annotated[float, Field(strict=False, ge=0, le=1)]
Split = Literal["train", "validation", "test"]
Value = TypeVar("Value")

# Of keys that are no section and that several stages read.
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Precision = Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]
# Of the key `memory`.
DEFAULT_MEMORY = 0.4


class Section(BaseModel):
    """A part of params.yaml: no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class Splits(Section, Generic[Value]):
    """One value for each split."""

    train: Value
    validation: Value
    test: Value
