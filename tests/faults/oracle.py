"""What must hold after a fault, whatever it was: judged by a process outside of the store that failed.

Acknowledged: visible, verified, the same bytes. Not acknowledged: as before or as after, whole. Never mixed or empty,
never older than what was acknowledged; no temporary file outlives a start; the store opens without help.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from prompt_store.errors import StoreError
from prompt_store.local import TEMPORARY
from prompt_store.store import Store
from tests.faults.operations import TASKS, Operation, State, state

Answer = Literal["acknowledged", "refused", "none"]
"""Refused: the store said that nothing was changed."""


def lost(root: Path, operation: Operation, answer: Answer) -> str | None:
    """What one interrupted operation broke; None when all holds, and the same operation again ends as it should."""
    states = [_whole(each) for each in operation.states]
    allowed = {"acknowledged": states[-1:], "refused": states[:-1] or states, "none": states}[answer]
    if operation.gradual and answer == "refused":
        allowed = states
    try:
        store = Store.open(str(root))
        left = sum(1 for _ in (root / TEMPORARY).iterdir())
        found = state(store)
        if left:
            return f"{left} temporary files outlived a start"
        if found not in allowed:
            return f"answer {answer}, and found {_short(found)}"
        for _ in range(2):
            operation.run(root)
            if state(store) != states[-1]:
                return f"done again, and found {_short(state(store))}"
    except StoreError as error:
        return f"{type(error).__name__}: {error}"
    return None


def _whole(given: State) -> State:
    return {name: list(given.get(name, [])) for name in TASKS}


def _short(found: State) -> dict[str, Sequence[str]]:
    return {
        name: [f"{event} {(digest or '')[:8]}".strip() for event, digest in history] for name, history in found.items()
    }
