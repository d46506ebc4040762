"""Whether a directory can keep a store, and what kind of file system it is on. Knows paths and Linux's mounts."""

import os
import re
from pathlib import Path

TABLE = Path("/proc/self/mountinfo")
OCTAL = re.compile(r"\\([0-7]{3})")


def file_system(path: Path, table: Path = TABLE) -> str | None:
    """Its type, like `ext4`; None where there is no such table. Of two mounts on one place the later counts."""
    if not table.is_file():
        return None
    found, place = None, path.resolve()
    longest = -1
    for line in table.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        before, _, behind = line.partition(" - ")
        mount = Path(OCTAL.sub(lambda octal: chr(int(octal[1], 8)), before.split(" ")[4]))
        if place.is_relative_to(mount) and len(mount.parts) >= longest:
            found, longest = behind.split(" ")[0], len(mount.parts)
    return found


def is_local(store: str) -> bool:
    """Whether it is a directory of this machine: everything else is a URL."""
    return "://" not in store


def unfit_for_a_store(store: Path) -> str | None:
    """Why a store cannot be kept there; None for a folder that is not there yet and can be made."""
    place = store.absolute()
    if place.resolve() == Path(place.anchor):
        return "that is everything there is: name a folder of its own"
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        return f"{place} is not a directory"
    return None if os.access(place, os.W_OK | os.X_OK) else f"{place} cannot be written"
