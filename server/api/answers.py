"""The answers of our own routes, as pydantic models: OpenAPI shows them, tests hold the routes to them.

The routes write plain dictionaries (`wire`): a stream has no time for a model per token.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from server.api.examples import CLASSIFIED, GENERATED, NEAREST, RENDERED, TASK, like
from server.engine.settings import Snapshot
from server.parameters import Given
from server.writing import FinishReason


class Answer(BaseModel):
    """An answer holds what it says and nothing else."""

    model_config = ConfigDict(extra="forbid")


class BaseName(Answer):
    """Which base a version was learnt on."""

    fingerprint: str
    name: str


class TaskObject(Answer):
    """A version of a task. `servable`: this server could run it; `resident`: it is in the engine's memory."""

    model_config = like(TASK)

    object: Literal["task"] = "task"
    id: str
    version: int
    kind: Literal["text", "embeddings", "prefix", "adapter"]
    length: int
    digest: str
    bytes: int
    template: str
    target_delimiter: str
    labels: list[str] | None
    defaults: dict[str, Any]
    description: str | None
    metrics: dict[str, float]
    base: BaseName | None
    verified: bool
    servable: bool
    created: int
    resident: bool


class TaskList(Answer):
    """One page of tasks. An empty page has null ids."""

    object: Literal["list"] = "list"
    data: list[TaskObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VersionObject(Answer):
    """One line of a task's history."""

    object: Literal["task.version"] = "task.version"
    version: int
    event: Literal["publish", "rollback", "delete"]
    created: int
    digest: str | None
    bytes: int
    previous: int | None
    source_version: int | None


class VersionDetail(VersionObject):
    """The same with the task as it was; null for a tombstone."""

    task: TaskObject | None


class VersionList(Answer):
    """A task's history, newest first."""

    object: Literal["list"] = "list"
    data: list[VersionObject]


class NearToken(Answer):
    """A token of the base, and how near."""

    id: int
    text: str
    cosine: float


class NearRow(Answer):
    """What one pseudo-token is nearest to."""

    row: int
    tokens: list[NearToken]


class Nearest(Answer):
    """All pseudo-tokens, in order."""

    model_config = like(NEAREST)

    data: list[NearRow]


class Usage(Answer):
    """`soft_tokens` are counted nowhere else; `truncated_tokens` only when `truncate` was given."""

    prompt_tokens: int
    soft_tokens: int
    cached_tokens: int
    completion_tokens: int
    total_tokens: int
    truncated_tokens: Given[int] = None


class TopToken(Answer):
    """One of the likeliest tokens."""

    id: int
    text: str
    logprob: float


class TokenLogprob(TopToken):
    """The chosen token, from the raw logits."""

    top: list[TopToken]


class Choice(Answer):
    """One of `n` answers."""

    index: int
    generated_text: str
    finish_reason: FinishReason
    logprobs: Given[list[TokenLogprob]] = None


class Details(Answer):
    """A plain answer without its text."""

    task: str
    version: int | None
    digest: str | None
    finish_reason: Given[FinishReason] = None
    usage: Usage
    seed: int
    logprobs: Given[list[TokenLogprob]] = None


class Generated(Details):
    """The answer; with `n` > 1 `choices` stand in place of text, reason and logprobs."""

    model_config = like(GENERATED)

    generated_text: Given[str] = None
    choices: Given[list[Choice]] = None


class ErrorBody(Answer):
    """What went wrong. `param` names the field at fault."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorAnswer(Answer):
    """Every error."""

    error: ErrorBody


class GeneratedMany(Answer):
    """In the order of the requests; an item that failed holds its error."""

    responses: list[Generated | ErrorAnswer]


class StreamToken(Answer):
    """`text` is what became certain with this token."""

    id: int
    text: str
    logprob: float | None
    special: bool


class StreamEvent(Answer):
    """One generated token; the last event carries the whole text and the details."""

    index: int
    token: StreamToken
    generated_text: str | None
    details: Details | None


class LabelScore(Answer):
    """How likely one label is behind the prompt."""

    label: str
    logprob: float
    probability: float


class Classified(Answer):
    """`scores`, best first."""

    model_config = like(CLASSIFIED)

    task: str
    version: int | None
    digest: str | None
    label: str
    scores: list[LabelScore]


class ClassifiedMany(Answer):
    """In the order of the requests; an item that failed holds its error."""

    responses: list[Classified | ErrorAnswer]


class Slot(Answer):
    """A run of pseudo-tokens: from which position of the whole sequence, from which row, how many."""

    position: int
    row: int
    length: int


class Counts(Answer):
    """How the request fills the context. `truncated_tokens` only when `truncate` was given."""

    prompt_tokens: int
    soft_tokens: int
    total_tokens: int
    context: int
    truncated_tokens: Given[int] = None


class Rendered(Answer):
    """`ids` are the text's, in order; `slots` say where the pseudo-tokens stand among them."""

    model_config = like(RENDERED)

    task: str
    version: int | None
    digest: str | None
    text: str
    ids: list[int]
    slots: list[Slot]
    counts: Counts


class Info(Answer):
    """What is served, and every bound by name."""

    model: str
    fingerprint: str
    dtype: str
    weights: Literal["dtype", "int8"]
    native_kernels: str
    deterministic: bool
    device: str
    max_total_tokens: int
    kinds: list[str]
    version: str
    vocabulary: int
    limits: dict[str, int | float]
    engine: Snapshot


class VersionAnswer(Answer):
    """The server's version."""

    version: str


class Health(Answer):
    """All is well, or well enough: `degraded`, where the store is down and what is known is served."""

    status: Literal["ok", "degraded"]
