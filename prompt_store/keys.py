"""Where everything stands in a place for objects: manifests, blobs, blobs that are about to go. Knows names only."""

import re

TASKS, BLOBS, TRASH = "tasks/", "blobs/", "trash/"
MANIFEST = re.compile(r"([0-9]{8})\.json")
FOLDER = re.compile(rf"{TASKS}([^/]+)!/")
BLOB = re.compile(r"([0-9a-f]{64})\.safetensors")


def manifest_key(name: str, version: int) -> str:
    """`!` sorts before every character of an id: the order of the keys is that of the ids."""
    return f"{TASKS}{name}!/{version:08d}.json"


def blob_key(digest: str) -> str:
    """The stored file of every version with this digest."""
    return f"{BLOBS}{digest}.safetensors"


def trash_key(digest: str) -> str:
    """The same file while nothing names it, until its grace is over."""
    return f"{TRASH}{digest}.safetensors"


def version_of(file: str) -> int | None:
    """The number that a manifest's file name says; None for other names, which are not ours to judge."""
    match = MANIFEST.fullmatch(file)
    return int(match[1]) if match and int(match[1]) >= 1 else None


def manifest_of(key: str) -> tuple[str, int] | None:
    """Task and version of a manifest's key; None for any other key."""
    folder = FOLDER.match(key)
    version = version_of(key[folder.end() :]) if folder else None
    return (folder[1], version) if folder and version else None


def digest_of_key(key: str) -> str | None:
    """The digest that a blob's key says, in its place or in the trash; None for any other key."""
    for folder in (BLOBS, TRASH):
        if key.startswith(folder) and (match := BLOB.fullmatch(key[len(folder) :])):
            return match[1]
    return None
