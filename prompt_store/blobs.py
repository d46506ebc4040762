"""The stored files of versions, by digest: how one is kept, read, and found again. Knows no manifests and no tasks."""

import logging
from contextlib import suppress

from prompt_store.errors import Corrupt, OutcomeUnknown, StoreFull, StoreUnavailable
from prompt_store.keys import blob_key, trash_key
from prompt_store.objects import Exists, Missing, Objects, Unconfirmed
from prompt_store.prompt import digest_of

log = logging.getLogger(__name__)

ATTEMPTS = 8
"""To keep a blob: each is spent only if a collection moved it between two of our calls."""


class Blobs:
    """Blobs in a place for objects."""

    def __init__(self, objects: Objects) -> None:
        """Nothing is read."""
        self._objects = objects

    def read(self, digest: str, size: int) -> bytes:
        """The whole file, size and digest verified. Raises Corrupt."""
        for _ in range(2):  # what was damaged on its way is whole the second time
            data = self._stored(digest)
            if len(data) == size and digest_of(data) == digest:
                return data
        raise Corrupt("the stored file does not match its digest")

    def keep(self, digest: str, data: bytes) -> None:
        """Keep a file. One that is there is compared, and mended if it was damaged: its name says its bytes."""
        for _ in range(ATTEMPTS):
            try:
                self._objects.create(blob_key(digest), data)
            except Exists:
                with suppress(Missing):
                    if self._objects.get(blob_key(digest)) != data:
                        log.warning("a damaged prompt file is mended by an upload of the same digest")
                        self._objects.replace(blob_key(digest), data)
                    return
            except Unconfirmed:
                break
            else:
                return
        # Nothing of this change names the blob yet: nothing was changed.
        raise StoreUnavailable("the prompt file could not be kept")

    def stay(self, digest: str, data: bytes, op_id: str) -> None:
        """See that the blob stands, now that a manifest names it, and put it again if it was moved meanwhile.

        From here on whoever moves it finds the manifest afterwards, and moves it back. Raises OutcomeUnknown.
        """
        try:
            if not self._objects.has(blob_key(digest)):
                self.keep(digest, data)
        except (StoreUnavailable, StoreFull):
            raise OutcomeUnknown(op_id) from None

    def _stored(self, digest: str) -> bytes:
        """The blob, or the same in the trash, where a collection that was stopped may have left it. Raises Corrupt."""
        for key in (blob_key(digest), trash_key(digest), blob_key(digest)):  # it may be on its way back just now
            with suppress(Missing):
                return self._objects.get(key)
        raise Corrupt("the stored file is missing")
