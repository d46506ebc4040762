"""The parameters of one generation, as a client writes them and as they are settled: request over task over server.

Knows bounds and defaults; no tasks, no tokens. `Strict` is the ground of every body: unknown fields and nulls are
refused, nothing is coerced but 4096.0 to 4096.
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from prompt_store.parameters import MAX_STOP_CHARACTERS, MAX_STOPS

MAX_SEED = 2**53 - 1
MAX_NEW_TOKENS = 256
"""What is generated when neither request nor task says."""
MAX_CHOICES = 16
MAX_LOGPROBS = 20
MAX_TIMEOUT_MS = 3_600_000

T = TypeVar("T")


class NotNull:
    """An optional field may be left out; null is refused, and the schema says so."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_refuse_null, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler(schema)
        kinds = [kind for kind in found.pop("anyOf", []) if kind != {"type": "null"}]
        return {**found, **kinds[0]} if len(kinds) == 1 else ({**found, "anyOf": kinds} if kinds else found)


def _refuse_null(value: Any) -> Any:
    if value is None:
        raise PydanticCustomError("null", "null is not accepted; leave the field out")
    return value


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _temperature(value: float) -> float:
    if value != 0 and not 0.01 <= value <= 100:
        raise PydanticCustomError("temperature", "must be 0 (greedy) or from 0.01 to 100")
    return value


Given = Annotated[T | None, NotNull()]
WHOLE = BeforeValidator(_whole)
Temperature = Annotated[
    float,
    AfterValidator(_temperature),
    WithJsonSchema({"anyOf": [{"const": 0}, {"type": "number", "minimum": 0.01, "maximum": 100}]}),
]
Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]


class Strict(BaseModel):
    """A body, or a part of one."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler(schema)
        for field in handler.resolve_ref_schema(found).get("properties", {}).values():
            if field.get("default", ...) is None:
                del field["default"]
        return found


class Parameters(Strict):
    """What a request may ask for. Absent: the task's default, else the server's."""

    max_new_tokens: Given[Annotated[int, Field(ge=1, le=2**20), WHOLE]] = None
    temperature: Given[Temperature] = None
    top_k: Given[Annotated[int, Field(ge=1, le=2**20), WHOLE]] = None
    top_p: Given[Annotated[float, Field(ge=1e-6, le=1)]] = None
    min_p: Given[Annotated[float, Field(ge=0, le=1)]] = None
    repetition_penalty: Given[Annotated[float, Field(ge=0.01, le=100)]] = None
    stop: Given[Annotated[list[Stop], Field(max_length=MAX_STOPS)]] = None
    ignore_eos: Given[bool] = None
    seed: Given[Annotated[int, Field(ge=0, le=MAX_SEED), WHOLE]] = None
    n: Given[Annotated[int, Field(ge=1, le=MAX_CHOICES), WHOLE]] = None
    logprobs: Given[Annotated[int, Field(ge=0, le=MAX_LOGPROBS), WHOLE]] = None
    timeout_ms: Given[Annotated[int, Field(ge=1, le=MAX_TIMEOUT_MS), WHOLE]] = None

    def over(self, defaults: Mapping[str, Any]) -> "Parameters":
        """These, and where they are silent the task's."""
        given = self.model_dump(exclude_none=True)
        return Parameters.model_validate({**defaults, **given})
