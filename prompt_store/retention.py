"""Which versions may go for good, where somebody has asked for that. Knows what manifests say and how old they are."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from prompt_store.named import Named, Place

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Rules:
    """What a collection may take. Times in seconds.

    `keep`: of each task so many versions that hold something, the newest, stay; None: all. `deleted_after`: of a task
    deleted that long ago nothing stays but the tombstone; None: all does.
    """

    grace: float = DAY
    keep: int | None = None
    deleted_after: float | None = None
    despite_damage: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if self.grace < 0 or (self.deleted_after or 0) < 0:
            raise ValueError("a time is 0 or more")
        if self.keep is not None and self.keep < 1:
            raise ValueError("at least one version of each task is kept")


def retired(named: Named, rules: Rules, now: float) -> Iterator[Place]:
    """Versions that the rules let go, the lowest of each task first: never its newest, so no number is used twice.

    Only what was followed by another version longer than the grace ago: whoever lost an answer still finds its
    operation, and a server has long seen what is current now.
    """

    def old(place: Place) -> bool:
        return place in named.rows and now - named.rows[place].entry.modified >= rules.grace

    for name, numbers in named.numbers().items():
        first = _first_kept(named, name, numbers, rules, now)
        for number, following in pairwise(numbers):
            if number >= first or not old((name, number)) or not old((name, following)):
                break  # never a hole: what remains is a history from somewhere on
            yield name, number


def _first_kept(named: Named, name: str, numbers: list[int], rules: Rules, now: float) -> int:
    kept = [numbers[0]]
    if rules.keep is not None:
        rows = ((number, named.rows.get((name, number))) for number in numbers)
        full = [number for number, row in rows if row is not None and row.digest is not None]
        kept += full[-rules.keep :][:1] if len(full) >= rules.keep else []
    newest = named.rows.get((name, numbers[-1]))
    if rules.deleted_after is not None and newest is not None and newest.event == "delete":
        kept += [numbers[-1]] if now - newest.entry.modified >= rules.deleted_after else []
    return max(kept)
