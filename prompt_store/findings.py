"""What a check of a store has to tell of each version, and what to do about it. Knows states and words; no place."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from prompt_store.keys import manifest_key
from prompt_store.named import Named, Place

State = Literal["whole", "unreadable", "damaged", "missing", "trash"]
"""Of a file: its bytes are right; right, but of no form that can be read; wrong; nowhere; right, in the trash alone."""
SAID: Mapping[State, str] = {
    "unreadable": "its file has the right bytes and a form that this program cannot read",
    "damaged": "its file is damaged: the bytes are not those that its digest names",
    "missing": "its file is missing",
    "trash": "its file stands in the trash alone",
}
UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
HOLES = 10
"""Missing versions told one by one between two that stand."""


def size(number: float) -> str:
    """Bytes in the unit that fits."""
    unit, one = next(((unit, one) for unit, one in UNITS if number >= one), ("", 1))
    return f"{number / one:.1f} {unit}" if unit else counted(round(number), "byte")


def counted(number: int, what: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


@dataclass(frozen=True, slots=True)
class Found:
    """One thing: `damage` is still there, `mended` was. Neither: a fact. `advice` says what to do about it."""

    said: str
    advice: str | None = None
    task: str | None = None
    version: int | None = None
    digest: str | None = None
    damage: bool = False
    mended: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What was looked at: manifests, files by digest, and what was done to mend some of those."""

    named: Named
    states: Mapping[str, State]
    mended: Mapping[str, str]

    def of_task(self, name: str, versions: Sequence[int]) -> Iterator[Found]:
        """What is wrong with a task's versions, all of them given in ascending order."""
        good = [version for version in versions if self._is_good((name, version))]
        back = f"or softprompt rollback {name} {good[-1]}" if good else "or publish the task again"
        for version in versions:
            # What stands below the newest version is not served: nothing has to be put in its place.
            way = f", {back}" if version == versions[-1] else ""
            yield from self._of_version((name, version), way)
        for below, version in pairwise(versions):
            for absent in range(below + 1, min(version, below + 1 + HOLES)):
                advice = f"if its content is wanted, restore {manifest_key(name, absent)} from a backup"
                yield Found("its manifest is missing, though later versions stand", advice, name, absent, damage=True)

    def _of_version(self, place: Place, way: str) -> Iterator[Found]:
        if place in self.named.damaged:
            advice = f"restore {manifest_key(*place)} from a backup{way}"
            yield Found(self.named.damaged[place], advice, *place, damage=True)
            return
        row = self.named.rows[place]
        if row.previous not in {None, place[1] - 1}:
            said = f"its manifest says that it follows version {row.previous}"
            yield Found(said, "nothing is lost by it; another program may have written it", *place, damage=True)
        if row.digest is None:
            return
        state = self.states[row.digest]
        if row.digest in self.mended:
            yield Found(f"its file was {self.mended[row.digest]}", None, *place, row.digest, mended=True)
        if state != "whole":
            yield Found(SAID[state], _advice(state, row.digest) + way, *place, row.digest, damage=True)

    def _is_good(self, place: Place) -> bool:
        row = self.named.rows.get(place)
        return row is not None and row.digest is not None and self.states[row.digest] in {"whole", "trash"}


def _advice(state: State, digest: str) -> str:
    if state == "trash":
        return "it is served from there; softprompt fsck --repair or softprompt gc puts it back"
    if state == "unreadable":
        return "use the newer program that wrote it"
    return f"softprompt fsck --repair --from BACKUP, or push the file with digest {digest} again"
