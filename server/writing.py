"""One answer while it is written: ids in, certain text out, the stop and the end recognised.

Knows the tokenizer and stop strings; no engine, no HTTP.
"""

from dataclasses import dataclass

from server.engine.request import TokenEvent
from server.stopping import Stopping
from server.tokenizer import Spelling, Tokenizer


@dataclass(frozen=True, slots=True)
class Piece:
    """One generated id. `text` is what became certain with it; the joined texts are the answer's."""

    index: int
    id: int
    text: str
    logprob: float | None
    top: tuple[tuple[int, float], ...]
    special: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """What ends an answer: these ids, or this many."""

    eos_ids: frozenset[int]
    max_new_tokens: int


class Writer:
    """Writes one choice of a request."""

    def __init__(self, tokenizer: Tokenizer, prompt_ids: list[int], stopping: Stopping, ending: Ending) -> None:
        self._tokenizer = tokenizer
        self._spelling = Spelling(tokenizer, prompt_ids)
        self._stopping = stopping
        self._ending = ending
        self.pieces: list[Piece] = []
        self.over = False

    @property
    def stopped(self) -> bool:
        """A stop string was written: the engine need not go on."""
        return self._stopping.matched

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    def write(self, event: TokenEvent) -> Piece:
        """Over with the piece that ends the answer: it carries whatever was still held back."""
        ended = event.id in self._ending.eos_ids  # whatever it reads as, it is no text
        text = "" if ended else self._stopping.push(self._spelling.push(event.id))
        last = ended or event.index + 1 >= self._ending.max_new_tokens
        if last and not self.stopped:
            text += self._stopping.push(self._spelling.finish())
            text += self._stopping.finish()
        self.over = last or self.stopped
        special = ended or event.id in self._tokenizer.special
        piece = Piece(event.index, event.id, text, event.logprob, event.top, special)
        self.pieces.append(piece)
        return piece
