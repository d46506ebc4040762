"""The bodies of our own routes, as pydantic models: what OpenAPI shows is what is checked.

Knows shapes and bounds; no tasks, no engine.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from prompt_store.metadata import MAX_LABEL_CHARACTERS, MAX_LABELS
from prompt_store.parameters import DEFAULTS
from prompt_store.task import MAX_VERSION, RESERVED
from server.api.lenient import Lenient
from server.api.queries import NAME
from server.jobs.method import Method
from server.parameters import WHOLE, Given, Parameters, Strict

MAX_REQUESTS = 256

Version = Annotated[int, Field(ge=1, le=MAX_VERSION), WHOLE]
Truncate = Annotated[int, Field(ge=1, le=2**31), WHOLE]
Name = Annotated[str, Field(min_length=1, max_length=1024)]


def _inputs(value: Any) -> Any:
    fits = isinstance(value, str) or (isinstance(value, dict) and all(isinstance(text, str) for text in value.values()))
    if not fits:
        raise PydanticCustomError("inputs", "inputs must be a string or an object of strings")
    return value


def _distinct(labels: list[str]) -> list[str]:
    if len(set(labels)) != len(labels):
        raise PydanticCustomError("labels", "a label stands twice")
    return labels


Inputs = Annotated[
    Any,
    BeforeValidator(_inputs),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}]}),
]
Label = Annotated[str, Field(min_length=1, max_length=MAX_LABEL_CHARACTERS)]
Labels = Annotated[
    list[Label],
    Field(min_length=1, max_length=MAX_LABELS, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_distinct),
]


class Asked(Strict):
    """What every question to a task names. `task` absent or `base`: the bare model."""

    task: Given[Name] = None
    inputs: Inputs
    version: Given[Version] = None
    min_version: Given[Version] = None


class GenerateItem(Asked):
    """One generation."""

    parameters: Parameters = Field(default_factory=Parameters)
    truncate: Given[Truncate] = None


class GenerateOne(GenerateItem):
    """One generation, streamed on demand."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"task": "intent", "inputs": "play some jazz", "parameters": {"max_new_tokens": 8}}]
        }
    )

    stream: bool = False


class GenerateMany(Strict):
    """Several generations of any tasks, answered in order."""

    requests: Annotated[list[GenerateItem], Field(min_length=1, max_length=MAX_REQUESTS)]


class ClassifyItem(Asked):
    """One classification; `labels` absent: the task's own."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"task": "intent", "inputs": "add this song to my list"}]}
    )

    labels: Given[Labels] = None


class ClassifyMany(Strict):
    """Several classifications of any tasks, answered in order."""

    requests: Annotated[list[ClassifyItem], Field(min_length=1, max_length=MAX_REQUESTS)]


class RenderOne(Asked):
    """What would be sent."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"task": "intent", "inputs": "play some jazz"}]})

    truncate: Given[Truncate] = None


class RollbackBody(Strict):
    """Which version's content comes back."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"version": 1}]})

    version: Version


def _defaults() -> dict[str, Any]:
    """JSON schema of a task's defaults: parameters that do not belong to one request alone."""
    known = Parameters.model_json_schema()["properties"]
    return {"type": "object", "properties": {name: known[name] for name in DEFAULTS}, "additionalProperties": False}


Defaults = Annotated[dict[str, Any], WithJsonSchema(_defaults())]
TaskLabels = Annotated[
    list[str],
    Field(
        json_schema_extra={
            "minItems": 1,
            "maxItems": MAX_LABELS,
            "uniqueItems": True,
            "items": {"type": "string", "minLength": 1, "maxLength": MAX_LABEL_CHARACTERS},
        }
    ),
]
"""The document's alone, as is that of the defaults: what they hold is checked where prompt files are."""


class TextTask(Strict):
    """A task without tensors; what a field may hold in detail is checked where prompt files are."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"kind": "text", "template": "Text: {text}\nIntent:", "labels": ["play", "stop"]}]
        }
    )

    kind: Literal["text"] = "text"
    template: str
    target_delimiter: Given[str] = None
    labels: TaskLabels | None = None
    defaults: Given[Defaults] = None
    description: str | None = None
    metrics: Given[dict[str, Any]] = None


class TaskPatch(Strict):
    """RFC 7396: null puts a field's default back, `defaults` merge key by key. The template has no default."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"description": "what a request wants", "defaults": {"max_new_tokens": 4}}]}
    )

    template: Given[str] = None
    target_delimiter: str | None = None
    labels: TaskLabels | None = None
    defaults: Defaults | None = None
    description: str | None = None


class JobBody(Lenient):
    """A task to learn. `suffix` is its id, `method` what learns it; `seed` absent: any."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "base",
                    "suffix": "intent",
                    "training_file": "file-0123456789abcdef01234567",
                    "method": {
                        "type": "prompt_tuning",
                        "prompt_tuning": {"template": "{soft:20}{text}\nIntent:", "target": "intent"},
                    },
                }
            ]
        }
    )

    model: Name
    suffix: Annotated[Name, Field(json_schema_extra={"pattern": NAME, "not": {"enum": sorted(RESERVED)}})]
    training_file: Name
    validation_file: Given[Name] = None
    method: Method
    seed: Given[Annotated[int, Field(ge=0, le=2**31 - 1), WHOLE]] = None
    metadata: Given[
        Annotated[
            dict[Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(max_length=512)]],
            Field(max_length=16),
        ]
    ] = None
