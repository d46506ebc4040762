"""From results to the JSON that leaves the server. Knows both sides and decides nothing."""

import json
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from prompt_store.task import Task
from prompt_store.telling import task_fields
from prompt_store.template import Composed
from server.classify import Verdict
from server.engine.engine import Engine
from server.errors import Fault, Unavailable
from server.generate import Answer, Usage
from server.lookup import Served, Tasks
from server.tokenizer import Tokenizer
from server.writing import Piece

Json = dict[str, Any]
SLICE = 2**14
"""Items of a long list that are written at a time."""


dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encoded(value: Any) -> bytes:
    """Of an event, by pydantic: Python's own encoder took an eighth of all that a streamed token costs the loop."""
    return to_json(value, inf_nan_mode="null")  # it cannot refuse them, and no client can read them


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return written(dumps(value).encode(), status, headers)


def written(json: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json, status, headers, media_type="application/json")


def in_slices(value: Json) -> bytes:
    """What `dumps` writes of an object, for a thread, where its lists may hold millions.

    Python's encoder keeps the lock of all threads until it is done, more than half a second for four million ids.
    """
    return f"{{{','.join(f'{dumps(name)}:{_in_slices(one)}' for name, one in value.items())}}}".encode()


def _in_slices(value: Any) -> str:
    if not isinstance(value, list):
        return dumps(value)
    slices = (dumps(value[start : start + SLICE])[1:-1] for start in range(0, len(value), SLICE))
    return f"[{','.join(slices)}]"


def error(fault: Fault) -> Json:
    return {
        "error": {"message": fault.message, "type": fault.rule.type, "param": fault.param, "code": fault.code},
    }


def task_object(task: Task, tasks: Tasks, engine: Engine) -> Json:
    return {
        **task_fields(task),
        "servable": _servable(task, tasks),
        "created": task.created,
        "resident": task.digest is not None and engine.resident(task.digest) is not None,
    }


def _servable(task: Task, tasks: Tasks) -> bool:
    try:
        tasks.fitting(task)
    except Unavailable:
        return False
    return True


def _named(served: Served) -> Json:
    task = served.task
    return {
        "task": served.name,
        "version": None if task is None else task.version,
        "digest": None if task is None else task.digest,
    }


def _usage(usage: Usage) -> Json:
    cut = {} if usage.truncated_tokens is None else {"truncated_tokens": usage.truncated_tokens}
    return {
        "prompt_tokens": usage.prompt_tokens,
        "soft_tokens": usage.soft_tokens,
        "cached_tokens": usage.cached_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        **cut,
    }


def _logprobs(pieces: list[Piece], tokenizer: Tokenizer) -> list[Json]:
    return [
        {
            "id": piece.id,
            "text": tokenizer.piece(piece.id),
            "logprob": piece.logprob,
            "top": [{"id": index, "text": tokenizer.piece(index), "logprob": logprob} for index, logprob in piece.top],
        }
        for piece in pieces
    ]


def generated(found: Answer, tokenizer: Tokenizer) -> Json:
    """The plain answer; with several choices these stand in place of the text, the reason and the logprobs."""
    choices = [
        {
            "generated_text": choice.text,
            "finish_reason": choice.finish_reason,
            **({"logprobs": _logprobs(choice.pieces, tokenizer)} if found.logprobs else {}),
        }
        for choice in found.choices
    ]
    named, usage = _named(found.served), {"usage": _usage(found.usage), "seed": found.seed}
    if len(choices) == 1:
        return {**named, **choices[0], **usage}
    return {**named, "choices": [{"index": index, **choice} for index, choice in enumerate(choices)], **usage}


def stream_event(piece: Piece, plain: Json | None = None) -> Json:
    """One token; the last one comes with the plain answer."""
    details = dict(plain) if plain is not None else None
    text = None if details is None else details.pop("generated_text")
    token = {"id": piece.id, "text": piece.text, "logprob": piece.logprob, "special": piece.special}
    return {"index": piece.index, "token": token, "generated_text": text, "details": details}


def classified(verdict: Verdict) -> Json:
    scores = [
        {"label": score.label, "logprob": score.logprob, "probability": score.probability} for score in verdict.scores
    ]
    return {**_named(verdict.served), "label": scores[0]["label"], "scores": scores}


def rendered(served: Served, composed: Composed, context: int, *, truncated: bool) -> Json:
    """Text ids in order, and where among them, counted over the whole sequence, runs of rows stand."""
    slots: list[Json] = []
    for position, index in enumerate(composed.ids):
        if index >= 0:
            continue
        if slots and position == slots[-1]["position"] + slots[-1]["length"]:
            slots[-1]["length"] += 1
        else:
            slots.append({"position": position, "row": ~index, "length": 1})
    counts = {
        "prompt_tokens": composed.prompt_tokens,
        "soft_tokens": composed.soft_tokens,
        "total_tokens": composed.prompt_tokens + composed.soft_tokens,
        "context": context,
    }
    if truncated:
        counts["truncated_tokens"] = composed.cut
    ids = [index for index in composed.ids if index >= 0]
    return {**_named(served), "text": composed.text, "ids": ids, "slots": slots, "counts": counts}
