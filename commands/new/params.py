"""params.yaml for a folder: profiles/folder.yaml, with a section `dataset` of its own."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import yaml

from stages.shared.formats.pictures import Size, scaled_size

# The area that the profile's settings are for, and what a picture's sides are multiples of.
AREA, MULTIPLE = 224 * 224, 32
# With more pictures a head needs fewer epochs for as many steps.
STEPS, FEWEST = 450, 10
# How many times smaller a picture may become before small objects are doubtful.
FAR_SMALLER = 4.0
# Sides of all pictures are alike up to this factor: then none is padded.
ALIKE = 1.05


def image_size(sizes: Sequence[tuple[int, int]]) -> tuple[int | list[int], str]:
    """`image_size` and `fit` for pictures of these sizes, (height, width) in pixels.

    About as many pixels as 224 x 224, in the pictures' own shape if all have the same; else squares
    that borders fill up.
    """
    ratios = sorted(height / width for height, width in sizes)
    if ratios[-1] > ALIKE * ratios[0]:
        return math.isqrt(AREA), "pad"
    (height, width), _ = Counter(sizes).most_common(1)[0]
    scale = min(1.0, math.sqrt(AREA / (height * width)))
    sides = [max(MULTIPLE, round(side * scale / MULTIPLE) * MULTIPLE) for side in (height, width)]
    return (sides[0] if sides[0] == sides[1] else sides), "stretch"


def shrunk(sizes: Sequence[Size], wanted: int | list[int], fit: str) -> float:
    """How many times smaller a side of pictures of these sizes becomes, in the median."""
    height, width = wanted if isinstance(wanted, list) else (wanted, wanted)
    fitted = ((size, scaled_size(size, (height, width), fit)) for size in sizes)
    return median(math.sqrt(math.prod(size) / math.prod(small)) for size, small in fitted)


def epochs(pictures: int, batch_size: int, most: int) -> int:
    """Passes over so many training pictures: about `STEPS` steps, but `FEWEST` epochs or more."""
    return max(min(FEWEST, most), min(most, round(STEPS * batch_size / pictures)))


def written(profile: str, dataset: Mapping[str, Any], title: str, pictures: int) -> str:
    """The text of a profile with another section `dataset`, another first line, and as many epochs
    as the number of training pictures wants."""
    train = yaml.safe_load(profile)["train"]
    passes = epochs(pictures, train["batch_size"], train["epochs"])
    profile = profile.replace(f"  epochs: {train['epochs']}\n", f"  epochs: {passes}\n", 1)
    before, _, rest = profile.partition("dataset:\n")
    lines = rest.splitlines(keepends=True)
    # A comment above the next section belongs to it.
    after = next(number for number, line in enumerate(lines) if line[:1] not in (" ", "\n", ""))
    head = before.splitlines(keepends=True)
    section = "".join(_line(key, value) for key, value in dataset.items())
    return "".join([f"# {title}\n", *head[1:], "dataset:\n", section, "\n", *lines[after:]])


def _line(key: str, value: Any) -> str:
    """A key of the section: mappings of classes and splits a line each."""
    if isinstance(value, Mapping):
        rows = "".join(f"    {_scalar(k)}: {_scalar(v)}\n" for k, v in value.items())
        return f"  {key}:\n{rows}"
    return f"  {key}: {_scalar(value)}\n"


def _scalar(value: Any) -> str:
    """A value in YAML's flow style, on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("...").strip()
