"""JSON files that describe what lies beside them: a schema version, digests, and one of itself."""

import json
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from stages.shared.runtime.digests import damaged, digest_of
from stages.shared.runtime.errors import UserError

# What stands between the content and its digest, and behind it.
BEFORE, AFTER = b',\n  "digest": "', b'"\n}\n'


class Manifest(BaseModel):
    """A JSON file that describes what lies beside it, and ends with a digest of itself.

    The digest is of the file's bytes without it, so whatever reads the same bytes finds
    them whole.

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
        stored = path.read_bytes()
        try:
            content = json.loads(stored)
            if content.get("schema_version") != cls.model_fields["schema_version"].default:
                raise UserError(
                    f"{path} is of another version of this pipeline; `dvc repro` makes it again"
                )
            content.pop("digest", None)
            found = cls.model_validate_json(json.dumps(content))
        except (ValueError, AttributeError, RecursionError) as error:
            raise UserError(damaged(path, str(error).splitlines()[0])) from None
        text, _, digest = stored.rpartition(BEFORE)
        if digest != digest_of(text).encode() + AFTER:
            raise UserError(damaged(path, "its digest does not match"))
        return found

    def write(self, path: Path) -> None:
        """Write the file; the same content gives the same bytes."""
        indented = json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False)
        text = indented.removesuffix("\n}").encode()
        path.write_bytes(text + BEFORE + digest_of(text).encode() + AFTER)


class Part(Manifest):
    """A finished part of an output.

    Attributes:
        files: digest of each, by its path in the output.
    """

    files: dict[str, str]
