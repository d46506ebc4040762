"""The page's files, read once: a request names one of them, and never a path.

Knows names, media types and digests; no tasks, no keys.
"""

import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath

TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain"}


@dataclass(frozen=True, slots=True)
class Asset:
    """`etag` is quoted, as its header wants it."""

    data: bytes
    media_type: str
    etag: str


def load() -> Mapping[str, Asset]:
    """Every file below `static/`, by its path there with slashes."""
    return dict(_below(files("server.page") / "static", PurePosixPath()))


def _below(folder: Traversable, name: PurePosixPath) -> list[tuple[str, Asset]]:
    found: list[tuple[str, Asset]] = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        inner = name / entry.name
        if entry.is_dir():
            found += _below(entry, inner)
        else:
            data = entry.read_bytes()
            etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
            found.append((str(inner), Asset(data, _media_type(inner), etag)))
    return found


def _media_type(name: PurePosixPath) -> str:
    """Not the machine's own table where that would differ between machines."""
    return TYPES.get(name.suffix) or mimetypes.guess_type(name.name)[0] or "application/octet-stream"
