"""The OpenAPI document: FastAPI's own, plus the bodies that we read ourselves, less what we never answer."""

from collections.abc import Collection, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from server.api.answers import ErrorAnswer
from server.api.conditions import DIGESTS, ETAG, OPERATION_ID

REF = "#/components/schemas/{model}"
HEADERS = {
    "If-Match": ("Only when this digest, quoted, is the current one; else 412", ETAG.pattern),
    "If-None-Match": ("`*`: only when there is no current version; else 412", r"\*"),
    "Idempotency-Key": (
        "Names the operation, 1 to 255 visible ASCII characters: sent again, it is done once",
        OPERATION_ID.pattern,
    ),
    "Content-Digest": ("`sha-256=:<base64>:` of the body (RFC 9530); other bytes are 422", DIGESTS),
}
"""What each is for, and what it must look like."""
_DECLARED: dict[str, type[BaseModel]] = {}
"""What routes say that they read or stream: FastAPI sees neither."""
UNSAID = ("HTTPValidationError", "ValidationError")
DESCRIPTION = "One frozen language model, many tasks: each a soft prompt and a template, mixed in one batch."


def accepts(*models: type[BaseModel], others: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A required JSON body that is one of `models`; `others` are further media types."""
    refs = [_ref(model) for model in models]
    schema = refs[0] if len(refs) == 1 else {"anyOf": refs}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}, **(others or {})}}}


def takes(*names: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """A body, if any, and the headers of these names."""
    parameters = [
        {
            "name": name,
            "in": "header",
            "required": False,
            "description": HEADERS[name][0],
            "schema": {"type": "string", "pattern": f"^{HEADERS[name][1]}$"},
        }
        for name in names
    ]
    return {**(body or {}), "parameters": parameters}


def binary(description: str) -> dict[str, Any]:
    return {"schema": {"type": "string", "format": "binary", "description": description}}


def streams(event: type[BaseModel], last: str | None = None) -> dict[int | str, dict[str, Any]]:
    """A stream whose every `data:` line is `event`, but for the `last`, where there is one."""
    data: dict[str, Any] = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"anyOf": [_ref(event), _ref(ErrorAnswer)]},
    }
    if last is not None:
        data = {"anyOf": [data, {"const": last}]}
    one = {"type": "object", "properties": {"data": data}, "required": ["data"]}
    return {200: {"description": "The answer", "content": {"text/event-stream": {"schema": one}}}}


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    _DECLARED[model.__name__] = model
    return {"$ref": REF.format(model=model.__name__)}


def document(app: FastAPI, *, closed: bool, open_paths: Collection[str]) -> dict[str, Any]:
    """Every route with every answer it gives. `closed`: keys are needed, but not on `open_paths`."""
    built = get_openapi(
        title="softprompt", version=app.version, description=DESCRIPTION, routes=app.routes, tags=app.openapi_tags
    )
    schemas = built.setdefault("components", {}).setdefault("schemas", {})
    _, bodies = models_json_schema([(model, "validation") for model in _DECLARED.values()], ref_template=REF)
    schemas.update(bodies["$defs"])
    for name in UNSAID:
        schemas.pop(name, None)
    for path, methods in built["paths"].items():
        for operation in methods.values():
            _tell_the_truth(operation)
            if path in open_paths:
                operation["security"] = []
    if closed:
        built["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        built["security"] = [{"key": []}]
    return built


def _tell_the_truth(operation: dict[str, Any]) -> None:
    """FastAPI documents its own validation answer, which never leaves this server; every answer has an id."""
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422", "")):
        del responses["422"]
    for response in responses.values():
        response.setdefault("headers", {})["x-request-id"] = {"schema": {"type": "string"}}
