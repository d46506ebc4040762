"""A request's body: its media type, its size, its deadline, and the model it is read into.

Knows the protocol's headers; not what the body means.
"""

import asyncio
import difflib
from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any, TypeVar

from anyio.to_thread import run_sync
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request

from server.api.bodies import HELD, Held
from server.api.strict_json import loads
from server.config import PYDANTICS
from server.errors import Invalid, Late, TooLarge, Unsupported
from server.parameters import Parameters

INLINE_BYTES = 16 * 2**10
"""A body this small is decoded and validated on the loop: a thread would cost more."""
LARGE_BYTES = 256 * 2**10
"""Larger ones take turns."""

Model = TypeVar("Model", bound=BaseModel)
Read = TypeVar("Read")


def media_type(request: Request) -> str:
    """The type without parameters; "" when there is none. Raises Unsupported for a charset that is not UTF-8."""
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name.lower() == "charset" and value.strip('" ').lower() not in {"utf-8", "utf8"}:
            raise Unsupported("unsupported_media_type", "bodies are UTF-8")
    return kind.strip().lower()


async def read_bytes(request: Request, limit: int, seconds: float) -> bytes:
    """The whole body. Raises TooLarge, before reading where the length is announced, Late at the deadline, Unavailable
    when too many are being read, ClientDisconnect when the rest will never come."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    held: Held = request.scope[HELD]
    body = BytesIO()  # grows in place and hands out what it holds: pieces joined at the end would be held twice
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                if body.tell() + len(chunk) > limit:
                    raise _too_large(limit)
                body.write(chunk)
                held.grow(body.tell())
    except TimeoutError:
        fault = Late("body_timeout", f"the body did not arrive within {seconds:g} seconds")
        fault.headers["Connection"] = "close"
        raise fault from None
    return body.getvalue()


def _too_large(limit: int) -> TooLarge:
    fault = TooLarge("body_too_large", f"a body of this kind may have {limit} bytes")
    fault.headers["Connection"] = "close"
    return fault


async def read_json(request: Request, into: Callable[[Any], Read], *types: str) -> Read:
    """What `into` makes of the body's JSON value; `types` may hold it, application/json if none is named."""
    settings = request.app.state.settings
    allowed = types or ("application/json",)
    if media_type(request) not in allowed:
        raise Unsupported("unsupported_media_type", f"the body must be {' or '.join(allowed)}")
    body = await read_bytes(request, settings.max_body_bytes, settings.receive_seconds)
    return await decoded(request, body, into)


async def decoded(request: Request, body: bytes, into: Callable[[Any], Read]) -> Read:
    """The same of a body that was read."""
    if len(body) <= INLINE_BYTES:
        return into(loads(body))
    held: Held = request.scope[HELD]
    turn = held.turn if len(body) > LARGE_BYTES else None
    return await run_sync(lambda: into(loads(body)), limiter=turn)


def strict(model: type[Model]) -> Callable[[Any], Model]:
    """For `read_json`: into `model`."""
    return partial(validated, model)


def validated(model: type[Model], value: Any) -> Model:
    """`value` as `model`. Raises Invalid for the first thing that is wrong with it."""
    if not isinstance(value, dict):
        raise Invalid("invalid_request", "the body must be a JSON object")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        faults.sort(key=lambda fault: fault["type"] != "extra_forbidden")  # a misspelt field explains a missing one
        raise invalid(faults[0], model) from None


def invalid(error: ErrorDetails, model: type[BaseModel]) -> Invalid:
    """One of pydantic's errors in our words. Names of unknown fields are the client's and not repeated."""
    location = list(error["loc"])
    if not location and error["type"] in model.model_fields:
        location = [error["type"]]  # what does not fit together is named after the field that can be left out
    if error["type"] != "extra_forbidden":
        return Invalid("invalid_request", error["msg"].removeprefix(PYDANTICS), path(_ours(model, location)) or None)
    *parents, unknown = location
    known = fields_at(model, parents)
    if "parameters" in known and unknown in Parameters.model_fields:
        return Invalid("unknown_field", f"{unknown} belongs in parameters", path(parents) or None)
    return unknown_field(str(unknown), known, path(parents) or None)


def unknown_field(name: str, known: list[str], parent: str | None) -> Invalid:
    """What was probably meant. `name` is the client's and not repeated."""
    close = difflib.get_close_matches(name[:64], known, 1, 0.6)
    listed = f"known are {', '.join(known)}" if known else "there are none here"
    return Invalid("unknown_field", f"unknown field; {f'did you mean {close[0]}?' if close else listed}", parent)


def path(location: list[int | str]) -> str:
    """Like `requests[3].inputs`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _ours(model: type[BaseModel], location: list[int | str]) -> list[int | str]:
    """As far as it is made of our own names: a key of an object is the client's, a union's member nobody's."""
    for place, part in enumerate(location):
        if isinstance(part, str) and part not in fields_at(model, location[:place]):
            return location[:place]
    return location


def fields_at(model: type[BaseModel], parents: list[int | str]) -> list[str]:
    """The names that are known where an unknown one was found."""
    for part in parents:
        field = model.model_fields.get(str(part)) if isinstance(part, str) else None
        inner = _model_in(field.annotation) if field else None
        model = inner or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside `Model`, `Model | None` or `list[Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    arguments = getattr(annotation, "__args__", ())
    return next((found for argument in arguments if (found := _model_in(argument))), None)
