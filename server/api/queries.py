"""The queries of /tasks, and the headers and media types that OpenAPI says of it. Knows shapes and bounds only."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from prompt_store.metadata import MAX_DELIMITER_CHARACTERS, MAX_DESCRIPTION_CHARACTERS, MAX_TEMPLATE_CHARACTERS
from prompt_store.task import MAX_VERSION
from server.api.openapi import binary

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
PREFIX = r"^([A-Za-z0-9][A-Za-z0-9._-]{0,127})?$"
OPERATION = {"x-operation-id": {"schema": {"type": "string"}, "description": "Names the operation; send it to retry"}}
ETAG = {"ETag": {"schema": {"type": "string"}, "description": 'The digest, quoted: `"<digest>"`'}}
LOCATION = {"Location": {"schema": {"type": "string"}, "description": "The version"}}
BINARY = {"application/octet-stream": binary("a prompt file, or adapter_model.safetensors as PEFT wrote it")}
MERGE_PATCH = {"application/merge-patch+json": {"schema": {"type": "object"}}}


class Strictly(BaseModel):
    """A query: unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid")


class AtLeast(Strictly):
    """`min_version`: wait up to a second for a version that another server published."""

    min_version: Annotated[int | None, Field(ge=1, le=MAX_VERSION)] = None


class Near(AtLeast):
    """How many tokens for each row."""

    k: Annotated[int, Field(ge=1, le=100)] = 5


class Page(Strictly):
    """Which tasks: after an id, of a kind, with a prefix."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
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
