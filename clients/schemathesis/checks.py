"""What schemathesis is told of this server beyond the document: which good requests may be refused, and why.

Loaded by schemathesis itself (`hooks` of its configuration). Knows the error codes; not the server.
"""

import re
from typing import Any

import schemathesis

STATE = {
    "invalid_request": {
        "inputs": "which fields a task's template has is no matter of the document",
        "prompt": "how many ids the base knows is no matter of the document",
        "tokens": "likewise",
        "task": "what kind a task has; the base's own pseudo-tokens, which it has not",
        **dict.fromkeys(
            ("template", "target_delimiter", "labels", "description", "kind", "task_index"),
            "in a query: of a bare PEFT file; labels in a body: a task may have none of its own",
        ),
        "version": "the bare model has none",
        "messages": "a base may have no chat template",
        "after": "an id that is no longer in the list",
        "min_version": "the bare model has no versions",
        "n": "several choices fit no stream",
        "parameters.n": "likewise",
        "stream_options": "they are of a stream",
        "top_logprobs": "they need logprobs",
        "best_of": "it must equal n",
        "logprobs": "with echo their number is bounded over all prompts",
        "max_tokens": "0 asks for nothing without echo",
        "method": "evaluations are bounded by steps",
        "top_k": "how many ids the base knows is no matter of the document",
        "parameters.top_k": "likewise",
    },
    "context_length_exceeded": "how long the base's context is",
    "prompt_too_long": "likewise",
    "empty_prompt": "whether the base has a BOS",
    "timeout": "the client's own limit",
    "precondition_failed": "which version is current",
    "idempotency_mismatch": "what was asked under this key before",
    "digest_mismatch": "what the body's bytes are",
    "bad_template": "templates have a grammar",
    "bad_metadata": "bounds that templates and labels share",
    "bad_training_data": "rows have a form",
}
"""Code, and for the most general one the field: why a request that the document allows is refused all the same."""
HEADERS = "If-Match", "If-None-Match", "Content-Digest"
"""What they look like stands in the document; in its phase `coverage` schemathesis writes letters and digits alone."""
FILES = "bad_header", "file_too_short", "wrong_tensors", "wrong_shape", "wrong_base", "unsupported_kind"
"""The document says of a prompt file that it is bytes."""
LATER = "version_not_visible"
"""The one 503 that a healthy server says: of a version that another may have published."""


def known(error: Any, phase: str) -> bool:
    """Whether this refusal is one that no document can foretell."""
    code, param = error["code"], error["param"] or ""
    if param in HEADERS and phase == "coverage":
        return True
    reason = STATE.get(code)
    return code in FILES or isinstance(reason, str) or (isinstance(reason, dict) and field(param) in reason)


def field(param: str) -> str:
    """`requests[3].inputs` is about inputs."""
    return re.sub(r"^requests\[\d+\]\.", "", param).split("[")[0]


@schemathesis.check
def refusals_are_known(_: Any, response: Any, case: Any) -> None:
    """A request that fits the document is answered, or refused for a reason that stands above."""
    positive = case.meta is not None and case.meta.generation.mode.is_positive
    if positive and response.status_code in {400, 405, 408, 411, 412, 413, 414, 415, 417, 422, 431}:
        error = response.json()["error"]
        assert known(error, case.meta.phase.name.value), f"a good request is refused: {error}"  # noqa: S101 - how a check speaks to schemathesis


@schemathesis.check
def unavailable_is_known(_: Any, response: Any, case: Any) -> None:  # noqa: ARG001 - the shape of a check
    """A 503 is of a version that is not there yet."""
    if response.status_code == 503:
        error = response.json()["error"]
        assert error["code"] == LATER, f"a healthy server is unavailable: {error}"  # noqa: S101 - likewise
