"""Bodies of /v1, read as OpenAI's clients write them: null means absent, and what nobody defines is passed over.

A field of theirs that this server lacks is refused unless it asks for nothing. Knows no route.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from server.api.body import validated
from server.errors import Invalid
from server.parameters import Strict
from server.telemetry import logger

NEUTRAL: tuple[Any, ...] = ([], {}, "", False)
SPEAKABLE = re.compile("[a-z_]{1,40}")
"""A name that may stand in a log."""
MOST_SAID = 100

Model = TypeVar("Model", bound=BaseModel)
_said: set[str] = set()


class Lenient(Strict):
    """A body of /v1, or a part of one. Its schema says what `lenient` does: null is absent, others are nothing."""

    model_config = ConfigDict(extra="ignore")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = super().__get_pydantic_json_schema__(schema, handler)
        body = handler.resolve_ref_schema(found)
        body.pop("additionalProperties", None)
        for name, field in body.get("properties", {}).items():
            if name not in body.get("required", ()) and {"type": "null"} not in field.get("anyOf", ()):
                body["properties"][name] = {"anyOf": [field, {"type": "null"}]}
        return found


@dataclass(frozen=True, slots=True)
class Lacking:
    """A field of theirs that is not here: what there is `instead`, and values besides NEUTRAL that ask for nothing."""

    instead: str
    neutral: tuple[Any, ...] = ()


NOTHING: Mapping[str, Lacking] = {}


def lenient(model: type[Model], lacking: Mapping[str, Lacking] = NOTHING) -> Callable[[Any], Model]:
    """For `read_json`: into `model`."""
    return partial(_lenient, model, lacking)


def _lenient(model: type[Model], lacking: Mapping[str, Lacking], value: Any) -> Model:
    """Raises Invalid."""
    if not isinstance(value, dict):
        return validated(model, value)
    given = {name: _without_nulls(one) for name, one in value.items() if one is not None}
    for name, lack in lacking.items():
        if not _asks_for_nothing(given.pop(name, None), lack):
            raise Invalid("unknown_field", f"this server has no such field: {lack.instead}", name)
    for name in given.keys() - model.model_fields.keys():
        del given[name]
        _say(name)
    return validated(model, given)


def _asks_for_nothing(value: Any, lack: Lacking) -> bool:
    """0 is not False, though Python says that they are equal: `prompt_logprobs: 0` asks for something."""
    neutral = (None, *NEUTRAL, *lack.neutral)
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in neutral)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    if isinstance(value, list) and value and isinstance(value[0], dict):  # lists of ids are long and hold none
        return [_without_nulls(one) for one in value]
    return value


def _say(name: str) -> None:
    """Once: a client sends it with every request."""
    if SPEAKABLE.fullmatch(name) and name not in _said and len(_said) < MOST_SAID:
        _said.add(name)
        logger().info("a field that nobody defines is ignored", field=name)
