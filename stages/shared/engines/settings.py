"""Keys `engine` and `ray` of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from stages.shared.settings.section import Count, Section

EngineName = Literal["local", "ray"]
DEFAULT_ENGINE: EngineName = "local"


class Ray(Section):
    """The cluster that `engine: ray` uses.

    Attributes:
        address: of a running cluster that this machine is a part of, `host:port` or `auto`; null
            starts one on this machine.
        cpus: cores per shard.
        storage: folder that all machines reach, as fsspec takes it (`s3://bucket/folder`,
            `file:///mnt/folder`), through which the shards pass; null: through Ray's memory.
    """

    address: Annotated[str, Field(pattern=r"^(auto|[^:/\s]+:\d+)$")] | None = None
    cpus: Count = 1
    storage: Annotated[str, Field(pattern=r"^[a-z0-9]+://.+[^/]$")] | None = None
