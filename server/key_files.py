"""Keys from the files that settings name. Knows files, and which settings they stand for; no key is in a message."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Unread:
    """In the place of keys: why there are none. What else is wrong is told beside it."""

    reason: str


def with_keys_of_files(given: dict[str, Any]) -> dict[str, Any]:
    """`given` with the keys of the files it names, as container platforms hand out secrets."""
    found: dict[str, Any] = {}
    for name in ("api_key", "admin_key"):
        file = given.get(f"{name}_file")
        if file is None:
            continue
        try:
            found[name] = _keys_of(Path(file), f"{name}_file")
        except ValueError as error:
            found[name] = Unread(str(error))
        if name in given:
            found[name] = Unread(f"{name} and {name}_file are both set: one of them is wanted")
    return {**given, **found}


def _keys_of(file: Path, name: str) -> str:
    """The file's keys, one a line or separated by commas, with commas. Its content is in no message."""
    try:
        keys = re.split(r"[,\s]+", file.read_text(encoding="utf-8").strip())
    except OSError as error:
        raise ValueError(f"{name}: {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{name}: {file} is no text") from None
    if keys == [""]:
        raise ValueError(f"{name}: {file} holds no key")
    return ",".join(keys)
