"""What a CUDA graph does, on a CPU: the operators of some work, written down once and done again on the same tensors.

Whatever Python decided while it was written down is decided for good, as in a graph: branches, sizes, addresses and
numbers. Memory is not kept: who plays it has to keep the work. What a graph cannot hold (a number looked at, one that
comes from Python, a size that follows from numbers) raises. Kernels are launched through `launch`, since no operator
tells of them.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FORBIDDEN = {
    "aten::_local_scalar_dense": "a number is looked at",
    "aten::item": "a number is looked at",
    "aten::is_nonzero": "a number is looked at",
    "aten::lift_fresh": "a tensor is made of Python's numbers",
    "aten::nonzero": "a size follows from numbers",
    "aten::masked_select": "a size follows from numbers",
    "aten::_unique2": "a size follows from numbers",
}


class Tape(TorchDispatchMode):
    """`record` is a `Recorder`, `launch` a `Launch`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types there
        self._calls: list[Callable[[], object]] = []
        self._recording = self._launching = False
        self.recordings = self.plays = 0

    def record(self, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        work()
        self._calls, self._recording = [], True
        try:
            with self:
                found = work()
        finally:
            self._recording = False
        calls, kept = self._calls, weakref.ref(work)
        self.recordings += 1

        def play() -> None:
            if kept() is None:
                raise RuntimeError("what it reads may be another's by now")
            self.plays += 1
            for call in calls:
                call()

        return found, play

    def launch(self, kernel: Any, grid: tuple[int, ...], *given: Any, **named: Any) -> None:
        def call() -> None:
            kernel[grid](*given, **named)

        if self._recording:
            self._calls.append(call)
        self._launching = True  # Triton's interpreter copies tensors with operators of its own
        try:
            call()
        finally:
            self._launching = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if self._launching:
            return func(*args, **named)
        if func._schema.name in FORBIDDEN:
            raise RuntimeError(f"not to be recorded: {FORBIDDEN[func._schema.name]}")
        found = func(*args, **named)
        made, given = _tensors(found), {_address(one) for one in _tensors((args, named))}
        if func._schema.is_mutable:
            self._calls.append(lambda: func(*args, **named))
        elif not all(_address(one) in given for one in made):  # a view has nothing to be done
            self._calls.append(lambda: _again(made, func(*args, **named)))
        return found


def _again(made: list[torch.Tensor], anew: Any) -> None:
    for old, new in zip(made, _tensors(anew), strict=True):
        old.copy_(new)


def _tensors(found: Any) -> list[torch.Tensor]:
    return [one for one in tree_leaves(found) if isinstance(one, torch.Tensor)]


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
