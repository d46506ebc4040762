"""What the manifests of a store name, read as often as one looks: each manifest once, since none ever changes.

For those who look after a store. Knows no blobs.
"""

from itertools import groupby
from typing import NamedTuple

from prompt_store import manifest
from prompt_store.errors import Corrupt
from prompt_store.keys import TASKS, manifest_key, manifest_of
from prompt_store.many import Steps, each, silent
from prompt_store.objects import Entry, Missing, Objects
from prompt_store.task import Event, Task, is_task_id

Place = tuple[str, int]
"""A task and a version."""


class Row(NamedTuple):
    """What is remembered of a manifest, and the manifest as the listing shows it."""

    event: Event
    digest: str | None
    bytes: int
    previous: int | None
    entry: Entry


class Named:
    """`rows` are the versions that can be read, `damaged` says of the others why not."""

    def __init__(self, objects: Objects, steps: Steps = silent) -> None:
        """Nothing is read yet."""
        self._objects = objects
        self._steps = steps
        self.rows: dict[Place, Row] = {}
        self.damaged: dict[Place, str] = {}

    def look(self) -> None:
        """List every manifest, and read those that are new or could not be read. Raises StoreUnavailable."""
        counted = self._steps("list versions", None)
        listed: dict[Place, Entry] = {}
        for entry in self._objects.entries(TASKS):
            place = manifest_of(entry.key)
            if place is not None and is_task_id(place[0]):
                listed[place] = entry
                counted(1)
        self.rows = {place: row for place, row in self.rows.items() if place in listed}
        self.damaged = {}
        fresh = [place for place in listed if place not in self.rows]
        read = each(self._read, fresh, self._steps("read versions", len(fresh)))
        for place, found in zip(fresh, read, strict=True):
            if isinstance(found, Task):
                self.rows[place] = Row(found.event, found.digest, found.bytes, found.previous, listed[place])
            elif isinstance(found, str):
                self.damaged[place] = found

    def digests(self) -> set[str]:
        """Of every file that a readable version names."""
        return {row.digest for row in self.rows.values() if row.digest is not None}

    def numbers(self) -> dict[str, list[int]]:
        """Of each task all versions, damaged ones too, ascending."""
        places = sorted({*self.rows, *self.damaged})
        return {name: [number for _, number in group] for name, group in groupby(places, key=lambda place: place[0])}

    def _read(self, place: Place) -> Task | str | None:
        """None where it went away meanwhile. What is damaged was read twice."""
        found = ""
        for _ in range(2):
            try:
                return manifest.read(self._objects.get(manifest_key(*place)), *place)
            except Missing:
                return None
            except Corrupt as error:
                found = str(error)
        return found
