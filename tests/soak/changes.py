"""What a soak publishes, changes, rolls back and deletes: as many tasks live in the end as in the beginning.

Knows the routes of /tasks and what each may answer while others change the same task.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random

from tests.server.site import embeddings
from tests.soak.calls import Call, called

POOL = tuple(f"soak-{number:02}" for number in range(12))
HIDDEN = 256
"""The width of the embedded base."""

Change = Callable[[Random, str], Sequence[Call]]


def replace(draw: Random, key: str) -> Sequence[Call]:
    """A new version, or the same bytes again; a task that was deleted comes back."""
    return [_publish(draw, draw.choice(POOL), key)]


def patch(draw: Random, key: str) -> Sequence[Call]:
    """Other defaults over the same tensors."""
    told = {"defaults": {"max_new_tokens": draw.randint(1, 6)}}
    return [called("PATCH", f"/tasks/{draw.choice(POOL)}", 200, 201, 404, body=told, key=key)]


def rollback(draw: Random, key: str) -> Sequence[Call]:
    """To the first version, which is no tombstone."""
    return [called("POST", f"/tasks/{draw.choice(POOL)}/rollback", 200, 201, 404, body={"version": 1}, key=key)]


def delete(draw: Random, key: str) -> Sequence[Call]:
    return [called("DELETE", f"/tasks/{draw.choice(POOL)}", 204, 404, key=key)]


def passing(draw: Random, key: str) -> Sequence[Call]:
    """A task under a name of its own comes, is asked, and goes."""
    name = f"passing-{key}"
    ask = {"task": name, "inputs": "play some jazz", "parameters": {"max_new_tokens": 2}}
    return [
        _publish(draw, name, key),
        called("POST", "/generate", 200, body=ask),
        called("DELETE", f"/tasks/{name}", 204, key=f"{key}-end"),
    ]


CHANGES: Mapping[str, Change] = {
    "publish": replace,
    "publish again": replace,
    "patch": patch,
    "rollback": rollback,
    "delete": delete,
    "passing": passing,
}


def first() -> Sequence[Call]:
    """The pool as it is in the beginning. Once more it changes nothing."""
    return [_publish(Random(name), name, f"first-{name}") for name in POOL]


def _publish(draw: Random, name: str, key: str) -> Call:
    """Of few contents, so that files are shared and come back; a third are text tasks."""
    seed = draw.randint(0, 11)
    if seed % 3 == 0:
        return called("PUT", f"/tasks/{name}", 200, 201, body={"template": f"Case {seed}: {{input}}\nSay:"}, key=key)
    file = embeddings(None, "{input}", 1 + seed % 8, seed, hidden=HIDDEN)
    return called("PUT", f"/tasks/{name}", 200, 201, data=file.data, key=key)
