"""/v1/completions: a task's soft prompt, then exactly the given prompt; or its template, filled with inputs."""

import secrets
from types import MappingProxyType
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from server.api.auth import Access, caller_of, needs
from server.api.body import read_json
from server.api.desk_of import desk_of
from server.api.errors import documented
from server.api.lenient import lenient
from server.api.openapi import accepts, streams
from server.api.turnstile import asks_engine
from server.api.v1.answering import DONE, answered, task_of
from server.api.v1.answers import Completion, CompletionChunk
from server.api.v1.bodies import CompletionBody
from server.api.v1.lacking import COMPLETION
from server.api.v1.wire import REASONS, Envelope, completion_logprobs, places, places_of
from server.api.wire import Json
from server.generate import Choice, Item, Read
from server.tokenizer import Tokenizer
from server.writing import Piece

router = APIRouter(tags=["openai"])
UNSET = MappingProxyType({"max_new_tokens": 16, "temperature": 1.0})
"""OpenAI's, where neither the client nor the task says."""


@router.post(
    "/v1/completions",
    summary="Continue a text, as OpenAI's clients ask for it",
    response_model=Completion,
    responses={**streams(CompletionChunk, DONE), **documented(404, 408, 413, 415, 429)},
    openapi_extra=accepts(CompletionBody),
)
@needs(Access.GENERATE)
@asks_engine("model")
async def completions(request: Request) -> Response:
    body = await read_json(request, lenient(CompletionBody, COMPLETION))
    desk = desk_of(request)
    envelope = Envelope("text_completion", body.model, desk.room.running.engine.base.base.fingerprint, "cmpl")
    form = Continuation(desk.room.tokenizer, body.echo, body.logprobs is not None)
    return await answered(request, body, [_item(body, one, caller_of(request)) for one in body.asked], form, envelope)


def _item(body: CompletionBody, inputs: Any, caller: int | None) -> Item:
    return Item(
        id=secrets.token_hex(8),
        inputs=inputs,
        task=task_of(body.model),
        parameters=body.parameters(body.logprobs, body.max_tokens),
        streamed=body.stream,
        unset=UNSET,
        echo=body.echo,
        only_prompt=body.max_tokens == 0,
        caller=caller,
    )


class Continuation:
    """Choices of /v1/completions. With `echo` the prompt stands in front of each."""

    def __init__(self, tokenizer: Tokenizer, echo: bool, logprobs: bool) -> None:
        self._tokenizer, self._echo, self._logprobs = tokenizer, echo, logprobs
        self._lengths: dict[int, int] = {}

    def begun(self, index: int, read: Read) -> list[Json]:
        self._lengths[index] = self._length(read)
        if not self._echo:
            return []
        found = completion_logprobs(places_of(read, self._tokenizer), self._tokenizer) if self._logprobs else None
        return [_choice(index, read.composed.text, found, None)]

    def piece(self, index: int, piece: Piece) -> Json:
        at = self._lengths[index]
        self._lengths[index] += len(piece.text)
        found = completion_logprobs(places([piece], at), self._tokenizer) if self._logprobs else None
        return _choice(index, piece.text, found, piece.finish and REASONS[piece.finish])

    def whole(self, index: int, choice: Choice) -> Json:
        echo = [*places_of(choice.read, self._tokenizer)] if self._echo and self._logprobs else []
        found = completion_logprobs([*echo, *places(choice.pieces, self._length(choice.read))], self._tokenizer)
        text = choice.read.composed.text + choice.text if self._echo else choice.text
        return _choice(index, text, found if self._logprobs else None, REASONS[choice.finish_reason])

    def end(self, index: int, choice: Choice) -> Json:
        """Of a stream: nothing was generated."""
        return _choice(index, "", None, REASONS[choice.finish_reason])

    def _length(self, read: Read) -> int:
        return len(read.composed.text) if self._echo else 0


def _choice(index: int, text: str, logprobs: Json | None, reason: str | None) -> Json:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
