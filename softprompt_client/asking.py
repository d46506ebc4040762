"""The routes that ask a task or the server, each as a call. Knows the contract's paths and bodies; sends nothing."""

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from softprompt_client.answers import Classified, Failed, Generated, Health, Info, Rendered, StreamEvent
from softprompt_client.call import Call, holding, listed
from softprompt_client.requests import ClassifyRequest, GenerateRequest, Inputs, Parameters

GENERATED = holding({"generated_text": str}, {"choices": list})
RENDERED = holding({"text": str, "counts": dict})
CLASSIFIED = holding({"label": str, "scores": list})
INFO = holding(dict.fromkeys(("model", "fingerprint", "dtype", "device", "version"), str))
HEALTH = holding({"status": str})
EVENT = holding({"token": dict})
"""Of a stream's events; `events` reads them one by one."""


def generate(
    task: str,
    inputs: Inputs,
    *,
    version: int | None = None,
    min_version: int | None = None,
    truncate: int | None = None,
    **parameters: Unpack[Parameters],
) -> Call[Generated]:
    """The whole answer. `task` may be `base`: the bare model."""
    body = _body(task, inputs, version=version, min_version=min_version, truncate=truncate)
    return Call("POST", "/generate", GENERATED, {**body, "parameters": parameters})


def generate_stream(
    task: str,
    inputs: Inputs,
    *,
    version: int | None = None,
    min_version: int | None = None,
    truncate: int | None = None,
    **parameters: Unpack[Parameters],
) -> Call[StreamEvent]:
    """The answer token by token, one event each; the last event has `generated_text` and `details`."""
    body = _body(task, inputs, version=version, min_version=min_version, truncate=truncate)
    return Call("POST", "/generate_stream", EVENT, {**body, "parameters": parameters})


def generate_many(requests: Sequence[GenerateRequest]) -> Call[list[Generated | Failed]]:
    """Answers in order, of any mix of tasks; an item that failed holds its `error`. At most 256 in one call."""
    return Call("POST", "/generate", listed("responses", len(requests)), {"requests": list(requests)})


def classify(
    task: str,
    inputs: Inputs,
    labels: Sequence[str] | None = None,
    *,
    version: int | None = None,
    min_version: int | None = None,
) -> Call[Classified]:
    """How likely each label is, best first. `labels` left out: the task's own."""
    body = _body(task, inputs, version=version, min_version=min_version)
    return Call("POST", "/classify", CLASSIFIED, body if labels is None else {**body, "labels": list(labels)})


def classify_many(requests: Sequence[ClassifyRequest]) -> Call[list[Classified | Failed]]:
    """Scores in order, of any mix of tasks; an item that failed holds its `error`. At most 256 in one call."""
    return Call("POST", "/classify", listed("responses", len(requests)), {"requests": list(requests)})


def render(
    task: str,
    inputs: Inputs,
    *,
    version: int | None = None,
    min_version: int | None = None,
    truncate: int | None = None,
) -> Call[Rendered]:
    """What would be sent to the model: text, ids, where the soft prompt stands. Nothing is generated."""
    body = _body(task, inputs, version=version, min_version=min_version, truncate=truncate)
    return Call("POST", "/render", RENDERED, body)


def generate_request(request: Mapping[str, Any]) -> Call[Generated]:
    """The whole answer of a request that is at hand as an object: a line of a file."""
    return Call("POST", "/generate", GENERATED, dict(request))


def stream_request(request: Mapping[str, Any]) -> Call[StreamEvent]:
    """The answer of such a request token by token."""
    return Call("POST", "/generate_stream", EVENT, dict(request))


def render_request(request: Mapping[str, Any]) -> Call[Rendered]:
    """What would be sent of such a request; its parameters change nothing of it."""
    return Call("POST", "/render", RENDERED, {name: value for name, value in request.items() if name != "parameters"})


def info() -> Call[Info]:
    """What is served, and every bound by name."""
    return Call("GET", "/info", INFO)


def ready() -> Call[Health]:
    """Raises SoftpromptError as long as requests should go elsewhere."""
    return Call("GET", "/readyz", HEALTH)


def _body(task: str, inputs: Inputs, **more: int | None) -> dict[str, Any]:
    return {"task": task, "inputs": inputs, **{name: value for name, value in more.items() if value is not None}}
