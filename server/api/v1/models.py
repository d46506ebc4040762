"""/v1/models and the tokenizer over HTTP, in OpenAI's and vLLM's shapes: every task is a model of the one base."""

from anyio.to_thread import run_sync
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from prompt_store.task import Task
from server.api import wire
from server.api.auth import Access, needs
from server.api.body import read_json
from server.api.desk_of import desk_of
from server.api.errors import documented
from server.api.lenient import lenient
from server.api.openapi import accepts
from server.api.queries import MAX_PAGE
from server.api.v1.answering import in_their_words, task_of
from server.api.v1.answers import Detokenized, Model, ModelList, Tokenized, TokenizerInfo
from server.api.v1.bodies import DetokenizeBody, TokenizeBody
from server.api.v1.chat import conversation
from server.errors import Invalid
from server.lookup import BARE
from server.rendering import LONG_CHARACTERS, Room

router = APIRouter(tags=["openai"])
OWNER = "softprompt"


def _room(request: Request) -> Room:
    return desk_of(request).room


@router.get("/v1/models", summary="The base and all tasks", response_model=ModelList, responses=documented())
@needs(Access.GENERATE)
async def models(request: Request) -> Response:
    room = _room(request)
    tasks = await room.tasks.reach.ask(_all_tasks, room)
    data = [_model(BARE, None, room), *(_model(task.name, task, room) for task in tasks)]
    return wire.answer({"object": "list", "data": data})


@router.get("/v1/models/{model}", summary="One of them", response_model=Model, responses=documented(404))
@needs(Access.GENERATE)
async def model(request: Request, model: str) -> Response:
    room = _room(request)
    return wire.answer(_model(model, await _found(model, room), room))


async def _found(model: str, room: Room) -> Task | None:
    """None: the base itself. Raises Missing for a model that is none."""
    name = task_of(model)
    with in_their_words():
        return None if name == BARE else await room.tasks.find(name)


def _all_tasks(room: Room) -> list[Task]:
    found: list[Task] = []
    more = True
    while more:
        page, more = room.tasks.store.list(limit=MAX_PAGE, after=found[-1].name if found else None)
        found += page
    return found


def _model(name: str, task: Task | None, room: Room) -> wire.Json:
    base = room.running.engine.base.base
    return {
        "id": name,
        "object": "model",
        "created": 0 if task is None else task.created,
        "owned_by": OWNER,
        "root": base.name,
        "parent": None if task is None else BARE,
        "max_model_len": room.running.engine.max_total_tokens,
    }


@router.post(
    "/tokenize",
    summary="A text or a conversation as ids",
    response_model=Tokenized,
    responses=documented(404, 408, 413, 415),
    openapi_extra=accepts(TokenizeBody),
)
@needs(Access.GENERATE)
async def tokenize(request: Request) -> Response:
    body, room = await read_json(request, lenient(TokenizeBody)), _room(request)
    await _found(body.model or BARE, room)
    if body.messages is not None:
        exact = await conversation(body.messages, room.chat, body.add_generation_prompt)
        text, bos = str(exact.prompt), bool(body.add_special_tokens)
    else:
        text, bos = body.prompt or "", body.add_special_tokens is not False
    turn = room.long_texts if len(text) > LONG_CHARACTERS else None
    return wire.written(await run_sync(_tokenized, text, bos, body.return_token_strs, room, limiter=turn))


def _tokenized(text: str, bos: bool, names: bool, room: Room) -> bytes:
    """A thread's work, all of it: of a long text the answer takes as long to write as the ids to find."""
    tokenizer = room.tokenizer
    ids = tokenizer.encode(text, True) if text else []
    if bos and tokenizer.bos is not None and ids[:1] != [tokenizer.bos]:
        ids = [tokenizer.bos, *ids]
    found = {"count": len(ids), "max_model_len": room.running.engine.max_total_tokens, "tokens": ids}
    return wire.in_slices({**found, "token_strs": tokenizer.names(ids) if names else None})


@router.post(
    "/detokenize",
    summary="Ids as a text",
    response_model=Detokenized,
    responses=documented(404, 408, 413, 415),
    openapi_extra=accepts(DetokenizeBody),
)
@needs(Access.GENERATE)
async def detokenize(request: Request) -> Response:
    body, room = await read_json(request, lenient(DetokenizeBody)), _room(request)
    await _found(body.model or BARE, room)
    turn = room.long_texts if len(body.tokens) > LONG_CHARACTERS else None
    return wire.written(await run_sync(_detokenized, body.tokens, room, limiter=turn))


def _detokenized(ids: list[int], room: Room) -> bytes:
    size = room.tokenizer.size
    if max(ids, default=0) >= size:
        raise Invalid("invalid_request", f"ids are from 0 to {size - 1}", "tokens")
    return wire.dumps({"prompt": room.tokenizer.spelled(ids)}).encode()


@router.get("/tokenizer_info", summary="The tokenizer", response_model=TokenizerInfo, responses=documented())
@needs(Access.GENERATE)
async def tokenizer_info(request: Request) -> Response:
    room = _room(request)
    counts = {"model_max_length": room.running.engine.max_total_tokens, "vocab_size": room.tokenizer.size}
    return wire.answer({"tokenizer_class": "PreTrainedTokenizerFast", **room.tokenizer.about, **counts})
