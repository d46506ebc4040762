"""What the server answers, as it stands in the JSON: dictionaries with the fields of the contract.

A newer server may say more. Knows names and types alone; a test holds them to the server's own.
"""

from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict, final

Kind = Literal["text", "embeddings", "prefix", "adapter"]
FinishReason = Literal["eos_token", "stop_sequence", "length"]


class BaseName(TypedDict):
    """Which base a version was learnt on."""

    fingerprint: str
    name: str


class Task(TypedDict):
    """A version of a task. `servable`: this server could run it; `resident`: it is in the engine's memory."""

    object: Literal["task"]
    id: str
    version: int
    kind: Kind
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


class TaskPage(TypedDict):
    """One page of tasks. An empty page has null ids."""

    object: Literal["list"]
    data: list[Task]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Version(TypedDict):
    """One line of a task's history."""

    object: Literal["task.version"]
    version: int
    event: Literal["publish", "rollback", "delete"]
    created: int
    digest: str | None
    bytes: int
    previous: int | None
    source_version: int | None


class VersionDetail(Version):
    """The same with the task as it was; null for a tombstone."""

    task: Task | None


class NearToken(TypedDict):
    """A token of the base, and how near."""

    id: int
    text: str
    cosine: float


class NearRow(TypedDict):
    """What one pseudo-token is nearest to."""

    row: int
    tokens: list[NearToken]


class Usage(TypedDict):
    """`soft_tokens` are counted nowhere else; `truncated_tokens` only when `truncate` was given."""

    prompt_tokens: int
    soft_tokens: int
    cached_tokens: int
    completion_tokens: int
    total_tokens: int
    truncated_tokens: NotRequired[int]


class TopToken(TypedDict):
    """One of the likeliest tokens."""

    id: int
    text: str
    logprob: float


class TokenLogprob(TopToken):
    """The chosen token, from the raw logits."""

    top: list[TopToken]


class Choice(TypedDict):
    """One of `n` answers."""

    index: int
    generated_text: str
    finish_reason: FinishReason
    logprobs: NotRequired[list[TokenLogprob]]


class Details(TypedDict):
    """A plain answer without its text."""

    task: str
    version: int | None
    digest: str | None
    finish_reason: NotRequired[FinishReason]
    usage: Usage
    seed: int
    logprobs: NotRequired[list[TokenLogprob]]


@final
class Generated(Details):
    """The answer; with `n` > 1 `choices` stand in place of text, reason and logprobs."""

    generated_text: NotRequired[str]
    choices: NotRequired[list[Choice]]


class ErrorBody(TypedDict):
    """What went wrong. `param` names the field at fault."""

    message: str
    type: str
    param: str | None
    code: str


@final
class Failed(TypedDict):
    """An item of many that failed."""

    error: ErrorBody


class StreamToken(TypedDict):
    """`text` is what became certain with this token."""

    id: int
    text: str
    logprob: float | None
    special: bool


class StreamEvent(TypedDict):
    """One generated token; the last event carries the whole text and the details."""

    index: int
    token: StreamToken
    generated_text: str | None
    details: Details | None


class LabelScore(TypedDict):
    """How likely one label is behind the prompt."""

    label: str
    logprob: float
    probability: float


@final
class Classified(TypedDict):
    """`scores`, best first."""

    task: str
    version: int | None
    digest: str | None
    label: str
    scores: list[LabelScore]


class Slot(TypedDict):
    """A run of pseudo-tokens: from which position of the whole sequence, from which row, how many."""

    position: int
    row: int
    length: int


class Counts(TypedDict):
    """How the request fills the context. `truncated_tokens` only when `truncate` was given."""

    prompt_tokens: int
    soft_tokens: int
    total_tokens: int
    context: int
    truncated_tokens: NotRequired[int]


class Rendered(TypedDict):
    """`ids` are the text's, in order; `slots` say where the pseudo-tokens stand among them."""

    task: str
    version: int | None
    digest: str | None
    text: str
    ids: list[int]
    slots: list[Slot]
    counts: Counts


class Info(TypedDict):
    """What is served, every bound by name, and the engine at this moment."""

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
    engine: dict[str, Any]


class Health(TypedDict):
    """All is well."""

    status: Literal["ok", "degraded"]


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change made of a task. `created`: a new version; else the current one had this content already.

    `operation_id` names the operation: given as `idempotency_key` it asks for the same change, not for a second one.
    """

    task: Task
    created: bool
    operation_id: str


@dataclass(frozen=True, slots=True)
class PromptFile:
    """The stored file of a version, byte for byte; `digest` is its sha256, and was checked."""

    version: int
    digest: str
    data: bytes
