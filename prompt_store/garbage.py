"""Collect what no version names: into the trash first, and out of it after a grace. Safe beside servers that publish.

The order of its steps is the argument that no acknowledged version loses its file, whatever clocks and crashes do
(docs/decisions/0022): ages decide when something goes, never whether it is named. Knows no HTTP and no screen.
"""

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace

from prompt_store.errors import Corrupt, StoreUnavailable
from prompt_store.findings import counted
from prompt_store.keys import BLOBS, TRASH, blob_key, digest_of_key, trash_key
from prompt_store.local import LocalObjects
from prompt_store.many import Steps, silent
from prompt_store.named import Named
from prompt_store.objects import Entry, Exists, MemoryObjects, Missing, Objects, Unconfirmed
from prompt_store.prompt import digest_of
from prompt_store.retention import Rules, retired


@dataclass(slots=True)
class Tally:
    """How many, and their bytes."""

    count: int = 0
    bytes: int = 0

    def add(self, entry: Entry) -> None:
        """One more."""
        self.count += 1
        self.bytes += entry.bytes


@dataclass(slots=True)
class Collected:
    """What a collection did, or with `dry_run` would do.

    `versions` were removed by the rules, `recent` ones will be once the grace is over; files were `moved` into the
    trash, `back` out of it because a version names them, or `removed` for good; `young` ones wait in their place,
    `waiting` ones in the trash.
    """

    versions: Tally = field(default_factory=Tally)
    recent: Tally = field(default_factory=Tally)
    moved: Tally = field(default_factory=Tally)
    back: Tally = field(default_factory=Tally)
    removed: Tally = field(default_factory=Tally)
    young: Tally = field(default_factory=Tally)
    waiting: Tally = field(default_factory=Tally)


def collect(objects: Objects, rules: Rules, steps: Steps = silent) -> Collected:
    """Raises Corrupt while a manifest cannot be read, unless the rules say otherwise; StoreUnavailable, StoreFull.

    Stopped anywhere, the next one goes on: what is named and in the trash is read from there until then. A dry run
    writes nothing, neither a lock nor a file that tells the place's time: its ages are by the clock of this machine.
    """
    with nullcontext() if rules.dry_run else _alone(objects):
        return _Collection(objects, rules, steps).run()


def bring_back(objects: Objects, digest: str, age: float = 0.0) -> None:
    """A copy out of the trash into its place. Where both stand and differ, the one that is whole stays.

    `age`: seconds for which the one in the trash has been there. It goes once what stands in its place is whole and no
    removal of that can be on its way any more.
    """
    try:
        whole = objects.get(trash_key(digest))
    except Missing:
        return
    try:
        if digest_of(whole) == digest:
            objects.create(blob_key(digest), whole)
        elif digest_of(objects.get(blob_key(digest))) != digest:
            return  # damaged, both of them: which is the better is not for us to guess
    except Exists:
        if objects.get(blob_key(digest)) != whole:
            objects.replace(blob_key(digest), whole)
    except Missing:
        return
    except Unconfirmed:
        raise StoreUnavailable("a file could not be put back into its place") from None
    if age >= objects.lateness:
        objects.remove(trash_key(digest))


def _alone(objects: Objects) -> AbstractContextManager[None]:
    """A directory is collected by one process at a time; the decision says what holds for two on a bucket."""
    return objects.alone() if isinstance(objects, LocalObjects) else nullcontext()


def _clock(objects: Objects) -> float:
    """Without a write, which the place's own clock costs except in memory: a disk may be read-only."""
    return objects.now() if isinstance(objects, MemoryObjects) else time.time()


class _Collection:
    """One run. Its lists are older than its looks at the manifests, and what it removes lay in the trash before."""

    def __init__(self, objects: Objects, rules: Rules, steps: Steps) -> None:
        self._objects = objects
        self._rules = rules
        self._steps = steps
        self._named = Named(objects, steps)
        self._now = _clock(objects) if rules.dry_run else objects.now()
        self._done = Collected()

    def run(self) -> Collected:
        trash = self._listed(TRASH)
        blobs = self._listed(BLOBS)
        self._named.look()
        self._check_damage()
        self._retire()
        # First out of the trash, then into it: so nothing that this run moved can this run remove.
        left = self._empty(trash)
        moved = self._throw(blobs, left)
        if not self._rules.dry_run:
            self._named.look()
            there = {**left, **moved}
            for digest in sorted(there.keys() & self._named.digests()):
                self._return(digest, there[digest])
        return self._done

    def _listed(self, folder: str) -> dict[str, Entry]:
        counted = self._steps(f"list {folder.rstrip('/')}", None)
        found: dict[str, Entry] = {}
        for entry in self._objects.entries(folder):
            digest = digest_of_key(entry.key)
            if digest is not None:
                found[digest] = entry
                counted(1)
        return found

    def _check_damage(self) -> None:
        damaged = self._named.damaged
        if damaged and not self._rules.despite_damage:
            name, version = min(damaged)
            first = "" if len(damaged) == 1 else "the first of them "
            raise Corrupt(
                f"{counted(len(damaged), 'manifest')} cannot be read, {first}version {version} of task {name}: what"
                f" {'it names' if len(damaged) == 1 else 'they name'} is not known, so nothing is collected; softprompt"
                " fsck says what to do"
            )

    def _retire(self) -> None:
        places = list(retired(self._named, self._rules, self._now))
        for place in {*retired(self._named, replace(self._rules, grace=0), self._now)}.difference(places):
            self._done.recent.add(self._named.rows[place].entry)
        done = self._steps("remove versions", len(places))
        for place in places:
            entry = self._named.rows.pop(place).entry
            self._do_remove(entry.key)
            self._done.versions.add(entry)
            done(1)

    def _empty(self, trash: dict[str, Entry]) -> dict[str, Entry]:
        """Take out of the trash what is named or has been there for its grace; what stays."""
        named, left = self._named.digests(), {}
        done = self._steps("empty the trash", len(trash))
        for digest, entry in trash.items():
            if digest in named:
                self._return(digest, entry)
                left[digest] = entry
            elif self._is_old(entry):
                self._do_remove(entry.key)
                self._done.removed.add(entry)
            else:
                left[digest] = entry
                self._done.waiting.add(entry)
            done(1)
        return left

    def _throw(self, blobs: dict[str, Entry], trash: Iterable[str]) -> dict[str, Entry]:
        """Move into the trash what no version names; a file of which the trash has a copy already waits for its end."""
        gone = blobs.keys() - self._named.digests()
        done, moved = self._steps("move files into the trash", len(gone)), {}
        for digest in sorted(gone):
            if not self._is_old(blobs[digest]) or digest in trash:
                self._done.young.add(blobs[digest])
            else:
                with suppress(Missing, Exists):
                    if not self._rules.dry_run:
                        self._objects.move(blob_key(digest), trash_key(digest))
                    moved[digest] = blobs[digest]
                    self._done.moved.add(blobs[digest])
            done(1)
        return moved

    def _return(self, digest: str, entry: Entry) -> None:
        """What is named stands in its place again. Its copy in the trash goes once no removal can be on its way."""
        if self._rules.dry_run:
            self._done.back.add(entry)
            return
        if not self._objects.has(blob_key(digest)):
            self._done.back.add(entry)
        bring_back(self._objects, digest, self._now - entry.modified)

    def _do_remove(self, key: str) -> None:
        if not self._rules.dry_run:
            self._objects.remove(key)

    def _is_old(self, entry: Entry) -> bool:
        return self._now - entry.modified >= max(self._rules.grace, self._objects.lateness)
