"""Steps that fail at random: whatever a step asks of torch may find no memory, or raise for no reason.

Knows the engine's own parts, which it wraps on a live engine; draws from a seed, on the engine's thread alone.
"""

import random
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from server.engine.engine import MAX_CRASHES, Engine

OFTEN = 0.06
"""Of the passes; of all else that a step asks for, too."""
OPERATORS = 120
"""The one that fails is among so many; a pass that has fewer does not fail."""
ALLOCATING = ("aten::clone", "aten::empty", "aten::new_empty")

T = TypeVar("T")


def no_memory() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class Breaking(TorchDispatchMode):
    """Raises `error` in place of operator number `at`, counting those that allocate only where `allocating`."""

    def __init__(self, at: int, error: Exception, *, allocating: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._left = at
        self._error = error
        self._allocating = allocating

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self._allocating or func._schema.name.startswith(ALLOCATING):
            if self._left == 0:
                raise self._error
            self._left -= 1
        return func(*args, **(kwargs or {}))


class Faults:
    """Wraps what an engine's steps are made of. `count`: how many of its calls have failed."""

    def __init__(self, seed: int) -> None:
        self.count = 0
        self._draw = random.Random(seed)
        self._in_a_row = 0

    def install(self, engine: Engine) -> None:
        runner, kv = engine._runner, engine._runner.kv
        runner.run = self._failing(runner.run, ran=True)  # type: ignore[method-assign]
        runner.start = self._failing(runner.start)  # type: ignore[method-assign]
        runner.lay_out = self._failing(runner.lay_out, only_memory=True)  # type: ignore[method-assign]
        kv.copy_out = self._failing(kv.copy_out, only_memory=True)  # type: ignore[method-assign]

    def _failing(self, call: Callable[..., T], *, only_memory: bool = False, ran: bool = False) -> Callable[..., T]:
        def called(*given: Any) -> T:
            found = self._called(call, given, only_memory=only_memory)
            self._in_a_row *= not ran
            return found

        return called

    def _called(self, call: Callable[..., T], given: tuple[Any, ...], *, only_memory: bool) -> T:
        """Before one of its operators it fails, or behind its last; never so often that the engine gives up."""
        if self._draw.random() >= OFTEN or self._in_a_row == MAX_CRASHES - 1:
            return call(*given)
        error = no_memory() if only_memory or self._draw.random() < 0.5 else RuntimeError("no such kernel")
        at = self._draw.randrange(1 if only_memory else OPERATORS)
        try:
            with Breaking(at, error, allocating=only_memory):
                found = call(*given)
            if not only_memory and self._draw.random() < 0.1:
                raise error
        except (RuntimeError, torch.OutOfMemoryError):
            self.count += 1
            self._in_a_row += 1
            raise
        return found
