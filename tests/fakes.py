"""Stand-ins made by hand for what cannot be had in a test: a place for objects that goes down on demand."""

from collections.abc import Iterator

from prompt_store.errors import StoreUnavailable
from prompt_store.objects import Entry, MemoryObjects


class FailingObjects(MemoryObjects):
    """In memory; `down` makes every call fail as an unreachable place does."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailable("the place cannot be reached")

    def check(self) -> None:
        self._check()

    def get(self, key: str) -> bytes:
        self._check()
        return super().get(key)

    def create(self, key: str, data: bytes) -> None:
        self._check()
        super().create(key, data)

    def replace(self, key: str, data: bytes) -> None:
        self._check()
        super().replace(key, data)

    def confirm(self, key: str) -> None:
        self._check()
        super().confirm(key)

    def keys(self, prefix: str, after: str = "") -> Iterator[str]:
        self._check()
        return super().keys(prefix, after)

    def folders(self, prefix: str, above: str = "", below: str = "", *, descending: bool = False) -> Iterator[str]:
        self._check()
        return super().folders(prefix, above, below, descending=descending)

    def entries(self, prefix: str) -> Iterator[Entry]:
        self._check()
        return super().entries(prefix)

    def has(self, key: str) -> bool:
        self._check()
        return super().has(key)

    def move(self, key: str, to: str) -> None:
        self._check()
        super().move(key, to)

    def remove(self, key: str) -> None:
        self._check()
        super().remove(key)

    def now(self) -> float:
        self._check()
        return super().now()
