"""One answer while it is written: ids in, certain text out, the stop and the end recognised.

Knows the tokenizer and stop strings; no engine, no HTTP.
"""

from dataclasses import dataclass
from typing import Literal

from server.engine.request import PromptEvent, TokenEvent, Told
from server.stopping import Stopping
from server.tokenizer import Spelling, Tokenizer

FinishReason = Literal["eos_token", "stop_sequence", "length"]


@dataclass(frozen=True, slots=True)
class Piece:
    """One generated id. `text` is what became certain with it; the joined texts are the answer's.

    `choice` of the request; `finish` of the piece that ends it.
    """

    index: int
    id: int
    text: str
    logprob: float | None
    top: tuple[tuple[int, float], ...]
    special: bool
    choice: int = 0
    finish: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """What ends an answer: these ids, or this many."""

    eos_ids: frozenset[int]
    max_new_tokens: int


class Writer:
    """Writes one choice of a request. `told` are ids of its prompt, where they were asked for."""

    def __init__(
        self, tokenizer: Tokenizer, prompt_ids: list[int], stopping: Stopping, ending: Ending, choice: int = 0
    ) -> None:
        self._tokenizer = tokenizer
        self._spelling = Spelling(tokenizer, prompt_ids)
        self._stopping = stopping
        self._ending = ending
        self._choice = choice
        self.pieces: list[Piece] = []
        self.told: list[Told] = []
        self.finish: FinishReason | None = None

    @property
    def over(self) -> bool:
        return self.finish is not None

    @property
    def stopped(self) -> bool:
        """A stop string was written: the engine need not go on."""
        return self._stopping.matched

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    def read(self, event: PromptEvent) -> None:
        self.told += event.tokens

    def write(self, event: TokenEvent) -> Piece:
        """Over with the piece that ends the answer: it carries whatever was still held back."""
        ended = event.id in self._ending.eos_ids  # whatever it reads as, it is no text
        text = "" if ended else self._stopping.push(self._spelling.push(event.id))
        last = ended or event.index + 1 >= self._ending.max_new_tokens
        if last and not self.stopped:
            text += self._stopping.push(self._spelling.finish())
            text += self._stopping.finish()
        if self.stopped:
            self.finish = "stop_sequence"
        elif last:
            self.finish = "eos_token" if ended else "length"
        special = ended or event.id in self._tokenizer.special
        piece = Piece(event.index, event.id, text, event.logprob, event.top, special, self._choice, self.finish)
        self.pieces.append(piece)
        return piece
