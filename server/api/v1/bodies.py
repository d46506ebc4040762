"""The bodies of OpenAI's routes, as pydantic models.

Knows shapes and bounds; no tasks, no engine.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, FailFast, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from prompt_store.parameters import MAX_STOP_CHARACTERS, MAX_STOPS
from server.api.lenient import Lenient
from server.api.schemas import MAX_REQUESTS, Inputs, Name
from server.parameters import MAX_CHOICES, MAX_LOGPROBS, MAX_SEED, WHOLE, Given, Parameters, Stop, Temperature
from server.rendering import Exact

MAX_IDS = 2**20
MAX_MESSAGES = 1024
MAX_TOLD = 1024
"""Numbers that an echo tells in each place of its prompts."""
ID = {"type": "integer", "minimum": 0}
IDS = {"type": "array", "items": ID, "minItems": 1, "maxItems": MAX_IDS}


def _prompts(value: Any) -> Any:
    """A text, several, ids, or several lists of ids: always several prompts."""
    if isinstance(value, str):
        return (Exact(value),)
    if isinstance(value, list) and value:
        ids = _ids(value)
        found = [ids] if ids else [one if isinstance(one, str) else _ids(one) for one in value]
        if all(one is not None for one in found):
            return tuple(Exact(one) for one in found if one is not None)
    raise PydanticCustomError("prompt", "prompt must be a string, a list of ids, or a list of one of these")


def _ids(value: Any) -> tuple[int, ...] | None:
    """None for what is no list of ids. 5.0 is one."""
    if not isinstance(value, list) or not 0 < len(value) <= MAX_IDS:
        return None
    if any(type(one) is float for one in value):
        value = [int(one) if type(one) is float and one.is_integer() else one for one in value]
    return tuple(value) if all(type(one) is int and one >= 0 for one in value) else None


def _stops(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Prompts = Annotated[
    Any,
    BeforeValidator(_prompts),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                IDS,
                {
                    "type": "array",
                    "items": {"anyOf": [{"type": "string"}, IDS]},
                    "minItems": 1,
                    "maxItems": MAX_REQUESTS,
                },
            ]
        }
    ),
]
_ONE_STOP = {"type": "string", "minLength": 1, "maxLength": MAX_STOP_CHARACTERS}
Stops = Annotated[
    list[Stop],
    BeforeValidator(_stops),
    Field(max_length=MAX_STOPS),
    WithJsonSchema({"anyOf": [_ONE_STOP, {"type": "array", "items": _ONE_STOP, "maxItems": MAX_STOPS}]}),
]


def _one_of(*names: str, empty: tuple[str, ...] = ()) -> dict[str, Any]:
    """JSON schema: exactly one of these fields says something. Null says nothing, nor does "" in those of `empty`."""
    nothing = {name: {"enum": [None, ""]} if name in empty else {"type": "null"} for name in names}
    said = [{"required": [name], "properties": {**nothing, name: {"not": {"type": "null"}}}} for name in names]
    return {"anyOf": said}


Count = Annotated[int, Field(ge=0, le=2**20), WHOLE]


class StreamOptions(Lenient):
    """`include_usage`: the last chunk counts; `continuous_usage_stats`: every chunk does."""

    include_usage: bool = False
    continuous_usage_stats: bool = False
    include_obfuscation: Literal[False] = False


class Sampled(Lenient):
    """What both routes take. `model`: a task, `base`, or `base:task`. What is absent is the task's, then OpenAI's."""

    model: Name
    temperature: Given[Temperature] = None
    top_p: Given[Annotated[float, Field(ge=1e-6, le=1)]] = None
    top_k: Given[Annotated[int, Field(ge=-1, le=2**20), WHOLE]] = None
    min_p: Given[Annotated[float, Field(ge=0, le=1)]] = None
    repetition_penalty: Given[Annotated[float, Field(ge=0.01, le=100)]] = None
    n: Given[Annotated[int, Field(ge=1, le=MAX_CHOICES), WHOLE]] = None
    stop: Given[Stops] = None
    seed: Given[Annotated[int, Field(ge=0, le=MAX_SEED), WHOLE]] = None
    ignore_eos: Given[bool] = None
    stream: bool = False
    stream_options: Given[StreamOptions] = None

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("stream_options", "stream_options are of a stream")
        return self

    @property
    def usage_in(self) -> StreamOptions:
        return self.stream_options or StreamOptions()

    def parameters(self, logprobs: int | None, most: int | None) -> Parameters:
        """As our own request path has them. `most`: ids to generate."""
        same = ("temperature", "top_p", "min_p", "repetition_penalty", "n", "stop", "seed", "ignore_eos")
        found = {name: value for name in same if (value := getattr(self, name)) is not None}
        if self.top_k is not None and self.top_k > 0:
            found["top_k"] = self.top_k
        if logprobs is not None:
            found["logprobs"] = logprobs
        if most:
            found["max_new_tokens"] = most
        return Parameters(**found)


class CompletionBody(Sampled):
    """`inputs` fill the task's template, in place of a prompt that stands as it is."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "intent", "inputs": "play some jazz", "max_tokens": 8}],
            **_one_of("prompt", "inputs", empty=("prompt",)),
        }
    )

    prompt: Given[Prompts] = None
    inputs: Given[Inputs] = None
    max_tokens: Given[Count] = None
    logprobs: Given[Annotated[int, Field(ge=0, le=MAX_LOGPROBS), WHOLE]] = None
    echo: bool = False
    best_of: Given[Annotated[int, Field(ge=1, le=MAX_CHOICES), WHOLE]] = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.inputs is None and self.prompt is None:
            raise PydanticCustomError("prompt", "a prompt is needed, or inputs for the task's template")
        if self.inputs is not None and self.prompt not in {None, (Exact(""),)}:
            raise PydanticCustomError("prompt", "either a prompt, or inputs for the task's template")
        if self.prompt is not None and len(self.prompt) > MAX_REQUESTS:
            raise PydanticCustomError("prompt", f"at most {MAX_REQUESTS} prompts")
        if self.max_tokens == 0 and not self.echo:
            raise PydanticCustomError("max_tokens", "max_tokens 0 asks for nothing without echo")
        told = len(self.asked) * (self.n or 1) * (1 + (self.logprobs or 0))
        if self.echo and self.logprobs is not None and told > MAX_TOLD:
            raise PydanticCustomError("logprobs", f"prompts x n x (1 + logprobs) may be {MAX_TOLD} with echo")
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise PydanticCustomError("best_of", "best_of must equal n: none of the choices is left out")
        return self

    @property
    def asked(self) -> list[Any]:
        """Prompts, or the inputs."""
        return list(self.prompt or ()) if self.inputs is None else [self.inputs]


class TextPart(Lenient):
    """A part of a message."""

    type: Literal["text"]
    text: str


def _no_tools(value: Any) -> Any:
    if isinstance(value, dict) and any(value.get(name) for name in ("tool_calls", "function_call", "audio")):
        raise PydanticCustomError("tools", "there is only text here: no tools, no audio")
    return value


class Message(Lenient):
    """A turn of a conversation, as it was received or written: what nobody here reads is passed over."""

    role: Annotated[str, Field(min_length=1, max_length=64)]
    content: str | list[TextPart]
    name: Given[Annotated[str, Field(max_length=64)]] = None

    _plain = model_validator(mode="before")(_no_tools)

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


Messages = Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]


class ChatBody(Sampled):
    """A conversation, which the base's chat template turns into a prompt."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "base", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}]
        }
    )

    messages: Messages
    max_tokens: Given[Annotated[int, Field(ge=1, le=2**20), WHOLE]] = None
    max_completion_tokens: Given[Annotated[int, Field(ge=1, le=2**20), WHOLE]] = None
    logprobs: bool = False
    top_logprobs: Given[Annotated[int, Field(ge=0, le=MAX_LOGPROBS), WHOLE]] = None

    @model_validator(mode="after")
    def _top_of_logprobs(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise PydanticCustomError("top_logprobs", "top_logprobs need logprobs: true")
        return self


class TokenizeBody(Lenient):
    """A text, or a conversation, as ids. `model` may be left out: all tasks share the base's tokenizer."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "play some jazz"}], **_one_of("prompt", "messages")}
    )

    model: Given[Name] = None
    prompt: Given[str] = None
    messages: Given[Messages] = None
    add_special_tokens: Given[bool] = None
    add_generation_prompt: bool = True
    return_token_strs: bool = False

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise PydanticCustomError("prompt", "either a prompt or messages")
        return self


class DetokenizeBody(Lenient):
    """Ids as a text."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"tokens": [1, 2, 3]}]})

    model: Given[Name] = None
    tokens: Annotated[list[Annotated[int, Field(ge=0), WHOLE]], Field(max_length=MAX_IDS), FailFast()]
