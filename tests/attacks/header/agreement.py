"""Whether our parser and the safetensors library read some bytes alike: each alone, neither sees the other's verdict.

Knows two parsers and bytes; not where the bytes come from.
"""

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import safetensors

from prompt_store import container
from prompt_store.errors import PromptError

SECONDS = 0.25
"""Of the CPU, that any input may take our parser. A header is 64 KB at most; its slowest takes a few milliseconds."""


class DisagreementError(Exception):
    """An input that our parser takes and the library does not, or reads otherwise, or that takes too long."""


@dataclass(slots=True)
class Tally:
    """How many inputs were refused by both, by us alone, and read alike."""

    refused: int = 0
    stricter: int = 0
    agreed: int = 0
    slowest: float = field(default=0.0)
    """Seconds."""

    def judge(self, data: bytes) -> None:
        """Raises DisagreementError; whatever else our parser raises than PromptError comes through as it is."""
        began = time.thread_time()
        try:
            metadata, tensors = container.read(data)
        except PromptError:
            metadata, tensors = None, {}
        took = time.thread_time() - began
        self.slowest = max(self.slowest, took)
        if took > SECONDS:
            raise DisagreementError(f"it took {took:.3f} seconds")
        try:
            theirs = safetensors.deserialize(data)
        except safetensors.SafetensorError as error:
            if metadata is not None:
                raise DisagreementError("the library refuses what we take") from error
            self.refused += 1
            return
        if metadata is None:
            self.stricter += 1
            return
        ours = {name: (found.dtype, list(found.shape), found.data) for name, found in tensors.items()}
        if ours != {name: (found["dtype"], list(found["shape"]), bytes(found["data"])) for name, found in theirs}:
            raise DisagreementError("the library reads other tensors")
        if len(theirs) != len(ours) or dict(metadata) != metadata_of(data):
            raise DisagreementError("the library reads other metadata")
        self.agreed += 1


def metadata_of(data: bytes) -> dict[str, str]:
    """As the library says it, which it does of files alone; a file without metadata has none."""
    with tempfile.TemporaryDirectory(prefix="header-", dir=MEMORY) as folder:
        file = Path(folder) / "file"
        file.write_bytes(data)
        with safetensors.safe_open(file, framework="np") as opened:
            return opened.metadata() or {}


MEMORY = next((folder for folder in ("/dev/shm",) if Path(folder).is_dir()), None)  # noqa: S108 - names drawn by tempfile
