"""Every exception that can leave a route, as the one error shape. Knows the protocol, not the faults' reasons."""

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from prompt_store.task import is_task_id
from server.account import account
from server.api import wire
from server.api.answers import ErrorAnswer
from server.api.auth import authenticate
from server.api.body import unknown_field
from server.api.queries import query_model
from server.errors import KNOWN, RULES, Fault, Invalid, MethodNotAllowed, Missing, as_fault
from server.telemetry import logger

CLIENT_GONE = 499
RETRY_SECONDS = "1"


def fault_response(fault: Fault) -> Response:
    account().failed(fault.code)
    status = fault.rule.status
    headers = {"x-should-retry": "true" if fault.rule.retryable else "false"}
    if status in {429, 503}:
        headers["Retry-After"] = RETRY_SECONDS
    headers |= fault.headers
    return wire.answer(wire.error(fault), status, headers)


async def _known(_: Request, error: Exception) -> Response:
    return fault_response(as_fault(error))


async def _unknown(_: Request, error: Exception) -> Response:
    logger().error("unexpected", exc_info=error)
    return fault_response(as_fault(error))


async def _query(request: Request, error: Exception) -> Response:
    """FastAPI's own validation is left with paths and queries; its answer would repeat the input."""
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    if first.get("type") == "extra_forbidden":
        known = list(query_model(request).model_fields)
        return fault_response(unknown_field(str(first["loc"][-1]), known, None))
    param = ".".join(str(part) for part in first.get("loc", ())[1:])
    return fault_response(Invalid("invalid_request", str(first.get("msg", "invalid")), param or None))


async def _http(request: Request, error: Exception) -> Response:
    """What the router says: no such route, or not with this method. To strangers it says neither."""
    try:
        authenticate(request)
    except Fault as fault:
        return fault_response(fault)
    return fault_response(_unrouted(request, error))


def _unrouted(request: Request, error: Exception) -> Fault:
    status = error.status_code if isinstance(error, HTTPException) else 500
    path = request.scope["path"]
    if status == 405:
        allowed = ", ".join(request.app.state.methods(path))
        fault = MethodNotAllowed("method_not_allowed", f"the route has other methods: {allowed}")
        fault.headers["Allow"] = allowed
        return fault
    if request.method == "PUT" and path.startswith("/tasks/") and not is_task_id(path.removeprefix("/tasks/")):
        return Invalid("invalid_task_id", TASK_ID_RULE, "task")
    return Missing("not_found", "no such route")


async def _gone(_: Request, __: Exception) -> Response:
    """Nobody reads this; the log line has the status."""
    return Response(status_code=CLIENT_GONE)


TASK_ID_RULE = "a task id has 1 to 128 of A-Z a-z 0-9 . _ - and starts with a letter or digit; `base` is reserved"


def install(app: FastAPI) -> None:
    for known in KNOWN:
        app.add_exception_handler(known, _known)
    app.add_exception_handler(RequestValidationError, _query)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unknown)


def documented(*statuses: int) -> dict[int | str, dict[str, object]]:
    """OpenAPI's responses for these statuses, from the table, and for those that every route may answer."""
    wanted = sorted({400, 401, 403, 414, 415, 417, 431, 500, 503, *statuses})
    return {
        status: {
            "model": ErrorAnswer,
            "description": ", ".join(
                f"`{code}`" for rule in RULES.values() if rule.status == status for code in sorted(rule.codes)
            ),
        }
        for status in wanted
    }
