"""The queries of /tasks, and the headers and media types that OpenAPI says of it. Knows shapes and bounds only."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from starlette.requests import Request

from prompt_store.metadata import MAX_DELIMITER_CHARACTERS, MAX_DESCRIPTION_CHARACTERS, MAX_TEMPLATE_CHARACTERS
from prompt_store.task import MAX_VERSION, RESERVED, TASK_ID
from server.api.auth import is_open
from server.api.body import unknown_field
from server.api.openapi import binary

NAME = f"^{TASK_ID.pattern}$"
PREFIX = f"^({TASK_ID.pattern})?$"
NewId = Annotated[str, Path(json_schema_extra={"pattern": NAME, "not": {"enum": sorted(RESERVED)}})]
"""The document's alone: the route checks it, with a code of its own."""
MAX_PAGE = 1000
"""Rows of one listing."""
MAX_ID = 64
METADATA = re.compile(r"metadata\[(.{1,64})\]")
MAX_NEAREST = 100
"""Tokens for each pseudo-token."""
OPERATION = {"x-operation-id": {"schema": {"type": "string"}, "description": "Names the operation; send it to retry"}}
ETAG = {"ETag": {"schema": {"type": "string"}, "description": 'The digest, quoted: `"<digest>"`'}}
LOCATION = {"Location": {"schema": {"type": "string"}, "description": "The version"}}
BINARY = {"application/octet-stream": binary("a prompt file, or adapter_model.safetensors as PEFT wrote it")}
MERGE_PATCH = {"application/merge-patch+json": {"schema": {"$ref": "#/components/schemas/TaskPatch"}}}


class Strictly(BaseModel):
    """A query: unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid")


def query_model(request: Request) -> type[BaseModel]:
    """What the request's route takes as its query; `Strictly` itself where that is nothing."""
    fields = request.scope["route"].dependant.query_params
    found: type[BaseModel] = fields[0].field_info.annotation if fields else Strictly
    return found


async def check_query(request: Request) -> None:
    """A dependency of every route: one that takes no query refuses any. Health probes may add what they like."""
    if request.scope["query_string"] and query_model(request) is Strictly and not is_open(request.scope["route"]):
        raise unknown_field("", [], None)


class AtLeast(Strictly):
    """`min_version`: wait up to a second for a version that another server published."""

    min_version: Annotated[int | None, Field(ge=1, le=MAX_VERSION)] = None


class Near(AtLeast):
    """How many tokens for each row."""

    k: Annotated[int, Field(ge=1, le=MAX_NEAREST)] = 5


class Page(Strictly):
    """Which tasks: after an id, of a kind, with a prefix."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 100
    after: Annotated[str | None, Field(pattern=NAME)] = None
    order: Literal["asc", "desc"] = "asc"
    kind: Literal["text", "embeddings", "prefix", "adapter"] | None = None
    search: Annotated[str, Field(pattern=PREFIX)] = ""


class Bare(Strictly):
    """What a bare PEFT file does not say about itself."""

    template: Annotated[str | None, Field(max_length=MAX_TEMPLATE_CHARACTERS)] = None
    target_delimiter: Annotated[str | None, Field(max_length=MAX_DELIMITER_CHARACTERS)] = None
    labels: Annotated[str | None, Field(description="comma-separated")] = None
    description: Annotated[str | None, Field(max_length=MAX_DESCRIPTION_CHARACTERS)] = None
    kind: Literal["embeddings", "prefix", "adapter"] | None = None
    task_index: Annotated[int | None, Field(ge=0, le=1_000_000)] = None

    def given(self) -> dict[str, Any]:
        """Only what the query holds; labels as a list."""
        found = self.model_dump(exclude_none=True)
        if self.labels is not None:
            found["labels"] = self.labels.split(",")
        return found


class JobPart(Strictly):
    """A part of a job's events or checkpoints."""

    after: Annotated[str | None, Field(max_length=MAX_ID)] = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 20


class JobPage(JobPart):
    """Which jobs: with all of these `metadata[name]=value`."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"additionalProperties": False})

    @model_validator(mode="after")
    def _only_metadata(self) -> Self:
        unknown = [name for name in self.model_extra or () if not METADATA.fullmatch(name)]
        if unknown:
            raise PydanticCustomError("unknown", "the query takes after, limit and metadata[name]")
        return self

    def wants(self, metadata: Mapping[str, str] | None) -> bool:
        """Whether a job with these is one of them."""
        asked = {match[1]: value for name, value in (self.model_extra or {}).items() if (match := METADATA.match(name))}
        return all((metadata or {}).get(name) == value for name, value in asked.items())


class FilePage(Strictly):
    """Which files."""

    after: Annotated[str | None, Field(max_length=MAX_ID)] = None
    limit: Annotated[int, Field(ge=1, le=10_000)] = 10_000
    order: Literal["asc", "desc"] = "desc"
    purpose: Annotated[str | None, Field(max_length=MAX_ID)] = None
