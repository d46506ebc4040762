"""A scorer that keeps what it was told: a search that was ended goes through the same questions again, in no time.

What a search does depends on its settings and on what its scorer tells, and on nothing else. So it needs no state of
its own on disk: the answers are enough, in the order of the questions. Knows a `Scorer` and a checkpoint; no search.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tuning import checkpoint
from tuning.encoding import Encoded
from tuning.scorer import Scorer


@dataclass(frozen=True, slots=True)
class Told:
    """What a question came to: a list for each prompt, one after the other, and how long each is. `asked`: its digest.

    Likelihoods are float32 where they have no more bits, else float64, ids int64: as exact as Python's own.
    """

    asked: str
    values: Tensor
    sizes: Tensor

    def rows(self) -> list[list[Any]]:
        return [part.tolist() for part in self.values.split(self.sizes.tolist())] if len(self.sizes) else []


@dataclass(slots=True)
class Remembering:
    """Asks `scorer` what was not asked before. `identity` names all that the questions depend on.

    It is saved in front of a question: whoever listens has heard by then what came of all before it.
    """

    scorer: Scorer
    path: Path
    identity: dict[str, Any]
    save_seconds: float = 60.0
    again: bool = False
    """Whether the last question had been asked before."""
    unsaved: str | None = None
    """Why it could not be saved the last time."""
    _told: list[Told] = field(default_factory=list)
    _next: int = 0
    _before: float = 0.0
    _began: float = field(default_factory=time.monotonic)
    _saved: float = field(default_factory=time.monotonic)

    def resume(self) -> bool:
        """Take what was told before; False where there is no checkpoint. Raises CheckpointError."""
        found = checkpoint.resume(self.path, self.identity)
        if found is None:
            return False
        tensors, progress = found
        try:
            self._before = float(progress["seconds"])
            self._told = [
                Told(asked, tensors[f"{place}.values"], tensors[f"{place}.sizes"])
                for place, asked in enumerate(progress["asked"])
            ]
            for told in self._told:
                told.rows()
        except (KeyError, TypeError, ValueError, RuntimeError) as error:  # sizes that do not add up
            raise checkpoint.CheckpointError(f"{self.path.name} holds another run") from error
        return True

    @property
    def seconds(self) -> float:
        """That this took, together with what it goes on from."""
        return self._before + time.monotonic() - self._began

    def likelihoods(self, prompts: Sequence[Encoded]) -> list[list[float]]:
        asked = [(one.prompt, one.answers) for one in prompts]
        return self._ask(repr(asked), torch.float64, lambda: self.scorer.likelihoods(prompts))

    def answers(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
        asked = (max_new_tokens, [tuple(prompt) for prompt in prompts])
        return self._ask(repr(asked), torch.int64, lambda: self.scorer.answers(prompts, max_new_tokens))

    def save(self) -> str | None:
        """All that was told so far, or why that cannot be written."""
        tensors: dict[str, Tensor] = {}
        for place, told in enumerate(self._told):
            tensors |= {f"{place}.values": told.values, f"{place}.sizes": told.sizes}
        progress = {"asked": [told.asked for told in self._told], "seconds": self.seconds}
        self.unsaved = checkpoint.keep(self.path, tensors, {"identity": self.identity, "progress": progress})
        self._saved = time.monotonic()
        return self.unsaved

    def _ask(self, said: str, dtype: torch.dtype, ask: Callable[[], list[list[Any]]]) -> list[list[Any]]:
        asked = hashlib.sha256(said.encode()).hexdigest()
        place, self._next = self._next, self._next + 1
        self.again = place < len(self._told) and self._told[place].asked == asked
        if self.again:
            return self._told[place].rows()
        del self._told[place:]  # of another way, which a machine with other sums may have gone
        if time.monotonic() - self._saved > self.save_seconds:
            self.save()
        rows = ask()
        values = torch.tensor([value for row in rows for value in row], dtype=dtype)
        if dtype == torch.float64 and torch.equal(values.float().double(), values):
            values = values.float()  # half the bytes, every bit
        self._told.append(Told(asked, values, torch.tensor([len(row) for row in rows])))
        return rows
