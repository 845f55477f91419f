"""JSON files that describe what lies beside them: a schema version, digests, and one of itself."""

import json
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from stages.shared.runtime.digests import damaged, digest_of
from stages.shared.runtime.errors import UserError

DIGEST_KEY = "digest"


class Manifest(BaseModel):
    """A JSON file that describes what lies beside it, and ends with a digest of itself.

    Attributes:
        schema_version: of the subclass; raised whenever it, or a file that it describes, changes
            its form.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int

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
                    f"{path} is of another version of this pipeline; `dvc repro` makes it again"
                )
            expected = content.pop(DIGEST_KEY, None)
            found = cls.model_validate_json(json.dumps(content))
        except (ValueError, AttributeError, RecursionError) as error:
            raise UserError(damaged(path, str(error).splitlines()[0])) from None
        if digest_of(found.model_dump_json()) != expected:
            raise UserError(damaged(path, "its digest does not match"))
        return found

    def write(self, path: Path) -> None:
        """Write the file; the same content gives the same bytes."""
        content = json.loads(self.model_dump_json())
        content[DIGEST_KEY] = digest_of(self.model_dump_json())
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")


class Part(Manifest):
    """A finished part of an output.

    Attributes:
        files: SHA-256 of each, by its path in the output.
    """

    files: dict[str, str]
