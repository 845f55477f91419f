"""What a stage writes says what it is: JSON with a schema version, and a digest of each file.

A stage that reads such files first makes sure that they are whole and belong together.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from stages.shared.errors import UserError
from stages.shared.ordered_map import ordered_map

DIGEST_KEY = "digest"


class Manifest(BaseModel):
    """A JSON file that describes what lies beside it, and ends with a digest of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Raised whenever a file that one stage writes and another reads changes its form.
    schema_version: Literal[2] = 2

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            UserError: it is damaged, or of another version of the pipeline.
        """
        try:
            content = json.loads(path.read_bytes())
            if content.get("schema_version") != cls.model_fields["schema_version"].default:
                raise UserError(
                    f"{path} is of another version of this pipeline; `dvc repro` makes it anew"
                )
            expected = content.pop(DIGEST_KEY, None)
            found = cls.model_validate_json(json.dumps(content))
        except (ValueError, AttributeError, RecursionError) as error:
            raise UserError(damaged(path, str(error).splitlines()[0])) from None
        if digest_of(found.model_dump_json()) != expected:
            raise UserError(damaged(path, "it is not what was written"))
        return found

    def write(self, path: Path) -> None:
        """Write the file; the same content gives the same bytes."""
        content = json.loads(self.model_dump_json())
        content[DIGEST_KEY] = digest_of(self.model_dump_json())
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")


class Part(Manifest):
    """A finished part of an out.

    Attributes:
        files: SHA-256 of each, by its path in the out.
    """

    files: dict[str, str]


def digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def require_whole(digests: Mapping[Path, str]) -> None:
    """Fail on a file that is not what it was when its digest was taken; reads them on all cores.

    Raises:
        UserError: names the first such file.
    """
    for path, found in ordered_map(lambda path: (path, digest(path)), digests):
        if found != digests[path]:
            raise UserError(damaged(path, "it is not what was written"))


def damaged(path: Path, reason: str) -> str:
    """What to say of a file that is not whole."""
    return (
        f"{path} is damaged: {reason}; `dvc repro --force --single-item {maker(path)}` writes it "
        "anew"
    )


def maker(path: Path) -> str:
    """The stage that writes a file."""
    match path.parts:
        case ("data", "records" | "dataset.json", *_):
            return "prepare"
        case ("data", "features", *_):
            return "features"
        case ("data", "evaluation", variant, *_):
            return f"evaluate@{variant}"
        case ("models", "backbone", *_):
            return "backbone"
        case ("models", variant, *_):
            return f"train@{variant}"
    return "STAGE"
