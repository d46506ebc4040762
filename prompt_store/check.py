"""Is everything in a store what it should be? Every manifest, every file, and what has no business there.

Mends what can be mended without guessing: a file comes back from the trash or from another place if its bytes are those
that its name says. Manifests are never touched, and no version is chosen for anybody. Knows no HTTP and no screen.
"""

from dataclasses import dataclass

from prompt_store.errors import PromptError
from prompt_store.findings import Found, Seen, State, counted, size
from prompt_store.garbage import bring_back
from prompt_store.keys import BLOBS, TASKS, TRASH, blob_key, digest_of_key, manifest_of, trash_key
from prompt_store.many import Steps, each, silent
from prompt_store.named import Named
from prompt_store.objects import Exists, Missing, Objects, Unconfirmed
from prompt_store.prompt import digest_of, parse
from prompt_store.task import is_task_id


@dataclass(frozen=True, slots=True)
class Checked:
    """How much was looked at, and what was found."""

    tasks: int
    versions: int
    files: int
    bytes: int
    found: list[Found]

    @property
    def damage(self) -> int:
        """Findings that remain."""
        return sum(one.damage for one in self.found)


def check(
    objects: Objects,
    *,
    repair: bool = False,
    source: Objects | None = None,
    called: str = "the other place",
    steps: Steps = silent,
) -> Checked:
    """Look at everything; with `repair` mend from the trash and from `source`, a copy of the store in another place.

    `called`: that place in words. Files are counted as they are left. Servers may write meanwhile. Raises
    StoreUnavailable, StoreFull.
    """
    return _Check(objects, repair, source, called, steps).run()


class _Check:
    def __init__(self, objects: Objects, repair: bool, source: Objects | None, called: str, steps: Steps) -> None:
        self._objects = objects
        self._repair = repair
        self._source = source
        self._called = called
        self._steps = steps
        self._named = Named(objects, steps)
        self._states: dict[str, State] = {}
        self._mended: dict[str, str] = {}

    def run(self) -> Checked:
        foreign, kept = self._listed()
        self._named.look()
        digests = self._named.digests()
        self._look_at(digests | kept.keys())
        if self._repair:
            self._mend(digests)
        numbers = self._named.numbers()
        seen = Seen(self._named, self._states, self._mended)
        found = [one for name, versions in numbers.items() for one in seen.of_task(name, versions)]
        orphans = [number for digest, number in kept.items() if digest not in digests]
        if orphans:
            said = f"{counted(len(orphans), 'file')} that no version names, {size(sum(orphans))}"
            found.append(Found(said, f"softprompt gc collects {'it' if len(orphans) == 1 else 'them'}"))
        found += [Found("a name that no store gives: it is left alone", f"look at {key}") for key in foreign]
        rows = self._named.rows.values()
        kept |= {row.digest: row.bytes for row in rows if row.digest is not None and row.digest in self._mended}
        versions = len(self._named.rows) + len(self._named.damaged)
        return Checked(len(numbers), versions, len(kept), sum(kept.values()), found)

    def _listed(self) -> tuple[list[str], dict[str, int]]:
        """Keys that are none of a store's; files in their place, by digest, with their sizes."""
        foreign, kept = [], {}
        counted = self._steps("list files", None)
        for folder in (BLOBS, TRASH, TASKS):
            for entry in self._objects.entries(folder):
                counted(1)
                digest, place = digest_of_key(entry.key), manifest_of(entry.key)
                if digest is not None and folder == BLOBS:
                    kept[digest] = entry.bytes
                elif digest is None and (place is None or not is_task_id(place[0])):
                    foreign.append(entry.key)
        return foreign, kept

    def _look_at(self, digests: set[str]) -> None:
        done = self._steps("read files", len(digests))
        ordered = sorted(digests)
        self._states |= zip(ordered, each(self._state, ordered, done), strict=True)

    def _state(self, digest: str) -> State:
        for key in (blob_key(digest), trash_key(digest), blob_key(digest)):  # it may be on its way just now
            try:
                data = self._objects.get(key)
            except Missing:
                continue
            if digest_of(data) != digest:
                return "damaged" if key == blob_key(digest) else "missing"
            try:
                parse(data)
            except PromptError:
                return "unreadable"
            return "whole" if key == blob_key(digest) else "trash"
        return "missing"

    def _mend(self, digests: set[str]) -> None:
        hurt = sorted(digest for digest in digests if self._states[digest] in {"damaged", "missing", "trash"})
        done = self._steps("mend files", len(hurt))
        for digest in hurt:
            self._mend_one(digest)
            done(1)

    def _mend_one(self, digest: str) -> None:
        if self._states[digest] == "trash":
            bring_back(self._objects, digest)
            self._after(digest, "brought back from the trash")
        elif (data := _whole(self._objects, digest, trash_key(digest))) is not None:
            self._put(digest, data)
            self._after(digest, "mended from the trash")
        elif self._source is not None:
            data = _whole(self._source, digest, blob_key(digest), trash_key(digest))
            if data is not None:
                self._put(digest, data)
                self._after(digest, f"copied from {self._called}")

    def _put(self, digest: str, data: bytes) -> None:
        try:
            self._objects.create(blob_key(digest), data)
        except Exists:
            self._objects.replace(blob_key(digest), data)
        except Unconfirmed:
            return  # read again below: it stands or it does not

    def _after(self, digest: str, said: str) -> None:
        self._states[digest] = self._state(digest)
        if self._states[digest] in {"whole", "unreadable"}:
            self._mended[digest] = said


def _whole(place: Objects, digest: str, *keys: str) -> bytes | None:
    for key in keys:
        try:
            data = place.get(key)
        except Missing:
            continue
        if digest_of(data) == digest:
            return data
    return None
