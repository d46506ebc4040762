"""/v1/chat/completions: a task's soft prompt, then a conversation as the base's chat template writes it."""

import secrets

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
from server.api.v1.answers import ChatChunk, ChatCompletion
from server.api.v1.bodies import ChatBody, Message
from server.api.v1.completions import UNSET
from server.api.v1.lacking import CHAT
from server.api.v1.wire import REASONS, Envelope, chat_logprobs
from server.api.wire import Json
from server.chat import Chat, ChatError
from server.errors import Invalid
from server.generate import Choice, Item, Read
from server.rendering import Exact
from server.tokenizer import Tokenizer
from server.writing import Piece

router = APIRouter(tags=["openai"])


@router.post(
    "/v1/chat/completions",
    summary="The next turn of a conversation, as OpenAI's clients ask for it",
    response_model=ChatCompletion,
    responses={**streams(ChatChunk, DONE), **documented(404, 408, 413, 415, 429)},
    openapi_extra=accepts(ChatBody),
)
@needs(Access.GENERATE)
@asks_engine("model")
async def chat(request: Request) -> Response:
    body = await read_json(request, lenient(ChatBody, CHAT))
    desk = desk_of(request)
    prompt = await conversation(body.messages, desk.room.chat)
    envelope = Envelope("chat.completion", body.model, desk.room.running.engine.base.base.fingerprint, "chatcmpl")
    if body.stream:
        envelope = envelope.of("chat.completion.chunk")
    item = Item(
        id=secrets.token_hex(8),
        inputs=prompt,
        task=task_of(body.model),
        parameters=body.parameters(_logprobs(body), body.max_completion_tokens or body.max_tokens),
        streamed=body.stream,
        unset={"temperature": UNSET["temperature"]},
        caller=caller_of(request),
    )
    return await answered(request, body, [item], Turn(desk.room.tokenizer, body.logprobs), envelope)


def _logprobs(body: ChatBody) -> int | None:
    return (body.top_logprobs or 0) if body.logprobs else None


async def conversation(messages: list[Message], chat: Chat, answer: bool = True) -> Exact:
    """As the base's template writes it. Raises Invalid."""
    said = [
        {"role": one.role, "content": one.text, **({} if one.name is None else {"name": one.name})} for one in messages
    ]
    try:
        return Exact(await chat.render(said, answer), bos=False)
    except ChatError as error:
        raise Invalid("invalid_request", str(error), "messages") from None


class Turn:
    """Choices of /v1/chat/completions."""

    def __init__(self, tokenizer: Tokenizer, logprobs: bool) -> None:
        self._tokenizer, self._logprobs = tokenizer, logprobs

    def begun(self, index: int, read: Read) -> list[Json]:  # noqa: ARG002 - a turn shows no prompt
        return [_chunk(index, {"role": "assistant", "content": ""}, None, None)]

    def piece(self, index: int, piece: Piece) -> Json:
        found = chat_logprobs([piece], self._tokenizer) if self._logprobs else None
        return _chunk(index, {"content": piece.text}, found, piece.finish and REASONS[piece.finish])

    def whole(self, index: int, choice: Choice) -> Json:
        return {
            "index": index,
            "message": {"role": "assistant", "content": choice.text, "refusal": None},
            "logprobs": chat_logprobs(choice.pieces, self._tokenizer) if self._logprobs else None,
            "finish_reason": REASONS[choice.finish_reason],
        }

    def end(self, index: int, choice: Choice) -> Json:
        return _chunk(index, {}, None, REASONS[choice.finish_reason])


def _chunk(index: int, delta: Json, logprobs: Json | None, reason: str | None) -> Json:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
