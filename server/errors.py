"""What can go wrong, as a tree; and the one table from a code to what the client is told.

    Fault
    ├── Refused                    the request is at fault: the same again gets the same answer
    │   ├── Invalid          400   JSON, fields, values, lengths
    │   ├── Unauthorized     401   no key, or one that is not ours
    │   ├── Forbidden        403   a key without this right
    │   ├── Missing          404   the store positively says so
    │   ├── MethodNotAllowed 405
    │   ├── Conflicting      409
    │   ├── Outdated         412   If-Match, If-None-Match
    │   ├── TooLarge         413
    │   ├── UrlTooLong       414
    │   ├── Unsupported      415   media type, content encoding
    │   ├── ExpectationFailed 417
    │   ├── Unacceptable     422   a prompt file that was read and cannot be taken
    │   └── HeadersTooLarge  431
    ├── TooMany          429   of this key; try again
    ├── Late                 408   the client's own limit, or a body that never came
    ├── Unavailable          503   try again
    ├── Full                 507
    └── Broken               500   a bug of ours; never reachable by input

Knows no HTTP framework and no engine. Messages are written here and by `prompt_store`, never taken from input.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prompt_store.errors import (
    Corrupt,
    InputsError,
    OperationConflict,
    OutcomeUnknown,
    PreconditionFailed,
    PromptError,
    StoreError,
    StoreFull,
    StoreRefuses,
    TaskDeleted,
    TaskNotFound,
    VersionDeleted,
    VersionNotFound,
    VersionNotVisible,
)

MAX_MESSAGE = 2000
"""Characters: whatever is said stays under 4 KB."""


class Fault(Exception):  # noqa: N818 - the word of the house for an answer that is an error
    """Ends a request with `code`. `param` names the field at fault, in the schema's words."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.rule = RULES[type(self)]
        if code not in self.rule.codes:
            raise KeyError(code)
        self.code = code
        self.message = message[:MAX_MESSAGE]
        self.param = param
        self.headers: dict[str, str] = {}


class Refused(Fault):
    """4xx: the client's to change."""


class Invalid(Refused):
    """400."""


class Unauthorized(Refused):
    """401."""


class Forbidden(Refused):
    """403."""


class Missing(Refused):
    """404."""


class MethodNotAllowed(Refused):
    """405."""


class Conflicting(Refused):
    """409."""


class Outdated(Refused):
    """412."""


class TooLarge(Refused):
    """413."""


class UrlTooLong(Refused):
    """414."""


class Unsupported(Refused):
    """415."""


class ExpectationFailed(Refused):
    """417."""


class Unacceptable(Refused):
    """422."""


class HeadersTooLarge(Refused):
    """431."""


class TooMany(Fault):
    """429."""


class Late(Fault):
    """408."""


class Unavailable(Fault):
    """503."""


class Full(Fault):
    """507."""


class Broken(Fault):
    """500."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What the client is told of one leaf of the tree."""

    status: int
    type: str
    retryable: bool
    codes: frozenset[str]


FILE_CODES = frozenset(
    {
        "ambiguous_kind",
        "bad_directory",
        "bad_dtype",
        "bad_header",
        "bad_metadata",
        "bad_task_index",
        "bad_template",
        "file_too_large",
        "file_too_short",
        "header_too_large",
        "non_finite",
        "norm_out_of_range",
        "overflows_dtype",
        "unsupported_kind",
        "wrong_base",
        "wrong_shape",
        "wrong_tensors",
    }
)
"""What `prompt_store` says of a file that it will not take."""


def _rule(status: int, kind: str, *codes: str, again: bool = False) -> Rule:
    return Rule(status, kind, retryable=again, codes=frozenset(codes))


RULES: Mapping[type[Fault], Rule] = {
    Invalid: _rule(
        400, "invalid_request_error", "invalid_request", "invalid_json", "json_nan", "unknown_field",
        "context_length_exceeded", "empty_prompt", "invalid_task_id",
    ),
    Unauthorized: _rule(401, "authentication_error", "invalid_api_key"),
    Forbidden: _rule(403, "permission_error", "cross_origin", "insufficient_scope"),
    Missing: _rule(
        404, "not_found_error", "not_found", "task_not_found", "version_not_found", "model_not_found",
        "file_not_found", "job_not_found",
    ),
    MethodNotAllowed: _rule(405, "invalid_request_error", "method_not_allowed"),
    Late: _rule(408, "timeout_error", "timeout", "body_timeout", again=True),
    Conflicting: _rule(
        409, "conflict_error", "version_deleted", "operation_in_flight", "job_finished", "file_in_use"
    ),
    Outdated: _rule(412, "conflict_error", "precondition_failed"),
    TooLarge: _rule(413, "invalid_request_error", "body_too_large"),
    UrlTooLong: _rule(414, "invalid_request_error", "url_too_long"),
    Unsupported: _rule(415, "invalid_request_error", "unsupported_media_type", "unsupported_content_encoding"),
    ExpectationFailed: _rule(417, "invalid_request_error", "expectation_failed"),
    Unacceptable: _rule(
        422, "unacceptable_prompt_error", *FILE_CODES, "canary_failed", "prompt_too_long", "digest_mismatch",
        "idempotency_mismatch", "version_corrupt", "bad_training_data",
    ),
    HeadersTooLarge: _rule(431, "invalid_request_error", "headers_too_large"),
    TooMany: _rule(429, "rate_limit_error", "too_many_requests", again=True),
    Unavailable: _rule(
        503, "unavailable_error", "queue_full", "queue_timeout", "bodies_full", "draining",
        "store_unavailable", "corrupt", "engine_failed", "engine_stalled",
        "wrong_base", "unsupported_kind", "non_finite_output", "outcome_unknown", "version_not_visible",
        "jobs_unavailable", "out_of_memory", "quarantined", "too_many_connections", again=True,
    ),
    Full: _rule(507, "unavailable_error", "store_full"),
    Broken: _rule(500, "internal_error", "internal"),
}  # fmt: skip


KNOWN = (Fault, PromptError, InputsError, StoreError)
"""What may end a request or one item of a batch: everything else is a bug."""


def table() -> Iterator[tuple[str, int, str, bool]]:
    """Rows (code, status, type, retryable), as the documentation prints them."""
    for rule in sorted(RULES.values(), key=lambda rule: rule.status):
        for code in sorted(rule.codes):
            yield code, rule.status, rule.type, rule.retryable


def as_fault(error: Exception) -> Fault:
    """The fault that the client is told of; whatever is unknown is ours and stays unnamed."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, PromptError):
        return Unacceptable(error.code, error.message)
    if isinstance(error, InputsError):
        return Invalid("invalid_request", error.message, "inputs")
    if isinstance(error, StoreError):
        return _store_fault(error)
    return Broken("internal", "internal error; the request id finds it in the server's log")


def _store_fault(error: StoreError) -> Fault:
    if isinstance(error, PreconditionFailed):
        return _outdated(error)
    if isinstance(error, OutcomeUnknown):
        fault = Unavailable("outcome_unknown", "the store gave no definite answer; ask again with this operation id")
        fault.headers["x-operation-id"] = error.op_id
        return fault
    for kind, fault_type, code, message, param in _STORE:
        if isinstance(error, kind):
            return fault_type(code, message, param)
    if isinstance(error, StoreRefuses):
        return Unavailable("store_unavailable", "the store may not be changed: it is read-only, or its credentials are")
    return Unavailable("store_unavailable", "the store cannot be reached")


_STORE: tuple[tuple[type[StoreError], type[Fault], str, str, str | None], ...] = (
    (TaskNotFound, Missing, "task_not_found", "no such task: GET /tasks lists what there is", "task"),
    (TaskDeleted, Missing, "task_not_found", "no such task: it was deleted", "task"),
    (VersionNotFound, Missing, "version_not_found", "the task has no such version", "version"),
    (VersionDeleted, Conflicting, "version_deleted", "that version is a tombstone: it holds nothing", "version"),
    (OperationConflict, Unacceptable, "idempotency_mismatch", "this operation id names another change", None),
    (StoreFull, Full, "store_full", "the store is full; nothing was changed", None),
    (Corrupt, Unavailable, "corrupt", "the stored file of this version is damaged; it is not served", None),
    (VersionNotVisible, Unavailable, "version_not_visible", "that version is not visible here yet", "min_version"),
)


def _outdated(error: PreconditionFailed) -> Fault:
    current = error.current
    if current is None or current.digest is None:
        return Outdated("precondition_failed", "the task has no current version")
    fault = Outdated("precondition_failed", f"the current version is {current.version}, digest {current.digest}")
    fault.headers["ETag"] = f'"{current.digest}"'
    return fault
