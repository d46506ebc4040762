"""From results to OpenAI's objects. Knows both sides and decides nothing."""

import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from server.api.wire import Json
from server.engine.request import Told
from server.generate import Answer, Read
from server.tokenizer import Spelling, Tokenizer
from server.writing import FinishReason, Piece

REASONS: dict[FinishReason, str] = {"eos_token": "stop", "stop_sequence": "stop", "length": "length"}


@dataclass(frozen=True, slots=True)
class Place:
    """An id where it stands in a text, with what the base made of it; nothing is known of a prompt's first."""

    id: int
    offset: int
    logprob: float | None
    top: tuple[tuple[int, float], ...]


def places_of(read: Read, tokenizer: Tokenizer) -> Iterator[Place]:
    """Of the prompt's text ids."""
    spelling, offset, text = Spelling(tokenizer, []), 0, read.composed.text
    ids = [index for index in read.composed.ids if index >= 0]
    told: Iterable[Told | None] = chain([None], read.told)
    for index, one in zip(ids, told, strict=True):
        yield Place(index, offset, *((None, ()) if one is None else one[1:]))
        said = len(spelling.push(index))
        offset += _spelt(tokenizer.piece(index), text, offset) if index in tokenizer.special else said


def _spelt(special: str, text: str, offset: int) -> int:
    """Characters of a special token: none unless the prompt spelled it out."""
    return len(special) if text.startswith(special, offset) else 0


def places(pieces: Iterable[Piece], offset: int) -> Iterator[Place]:
    """Of what is generated behind so much text."""
    for piece in pieces:
        yield Place(piece.id, offset, piece.logprob, piece.top)
        offset += len(piece.text)


def completion_logprobs(found: Iterable[Place], tokenizer: Tokenizer) -> Json:
    """Four arrays, an entry for each id."""
    arrays: Json = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for place in found:
        arrays["tokens"].append(tokenizer.piece(place.id))
        arrays["token_logprobs"].append(place.logprob)
        arrays["top_logprobs"].append(_by_text(place, tokenizer))
        arrays["text_offset"].append(place.offset)
    return arrays


def _by_text(place: Place, tokenizer: Tokenizer) -> dict[str, float] | None:
    """The best ids and the one that stands there. Of ids that read alike the likeliest has the text."""
    if place.logprob is None:
        return None
    found: dict[str, float] = {}
    for index, logprob in (dict(place.top) | {place.id: place.logprob}).items():
        text = tokenizer.piece(index)
        found[f"token_id:{index}" if text in found else text] = logprob
    return found


def chat_logprobs(found: Iterable[Piece], tokenizer: Tokenizer) -> Json:
    """An object for each id."""
    return {
        "content": [
            {
                **_token(piece.id, piece.logprob, tokenizer),
                "top_logprobs": [_token(index, logprob, tokenizer) for index, logprob in piece.top],
            }
            for piece in found
        ],
        "refusal": None,
    }


def _token(index: int, logprob: float | None, tokenizer: Tokenizer) -> Json:
    text = tokenizer.piece(index)
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


@dataclass(frozen=True, slots=True)
class Envelope:
    """What all chunks of one answer share."""

    object: str
    model: str
    fingerprint: str
    prefix: str
    created: int = field(default_factory=lambda: int(time.time()))
    name: str = field(default_factory=lambda: secrets.token_hex(12))

    def of(self, kind: str) -> "Envelope":
        return replace(self, object=kind)

    def around(self, choices: Sequence[Json], usage: Json | None, *, told: bool = True) -> Json:
        """`told`: `usage` stands there even where it is null."""
        return {
            "id": f"{self.prefix}-{self.name}",
            "object": self.object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": list(choices),
            **({"usage": usage} if told else {}),
        }


@dataclass(slots=True)
class Counts:
    """Tokens of all prompts of a request."""

    prompt: int = 0
    soft: int = 0
    cached: int = 0
    completion: int = 0

    def read(self, read: Read) -> None:
        """A prompt counts once, whatever choices there are."""
        if read.choice == 0:
            self.prompt += read.composed.prompt_tokens
            self.soft += read.composed.soft_tokens

    def add(self, answer: Answer) -> None:
        self.prompt += answer.usage.prompt_tokens
        self.soft += answer.usage.soft_tokens
        self.cached += answer.usage.cached_tokens
        self.completion += answer.usage.completion_tokens

    def said(self) -> Json:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached, "soft_tokens": self.soft},
        }
