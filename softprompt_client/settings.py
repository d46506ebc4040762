"""Where the server is and which key is shown: arguments, else variables. The only reader of the environment here."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

URL = "http://127.0.0.1:8000"
TIMEOUT = 120.0
"""Seconds until a server that says nothing is given up."""
RETRIES = 4
"""How often a request is sent again."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`key` is shown to the server and to nobody else."""

    url: str
    headers: dict[str, str]

    def __repr__(self) -> str:
        return f"Settings(url={self.url!r})"


def settings(url: str | None, key: str | None) -> Settings:
    """What is given, else SOFTPROMPT_URL, and SOFTPROMPT_ADMIN_KEY before SOFTPROMPT_API_KEY, or the files of
    SOFTPROMPT_ADMIN_KEY_FILE and SOFTPROMPT_API_KEY_FILE: the first key there.

    Raises ValueError for an address without http:// or https://, for a file that cannot be read, and for a key that
    no header can carry.
    """
    address = (url or os.environ.get("SOFTPROMPT_URL") or URL).strip().rstrip("/")
    try:
        parts = urlsplit(address)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{address} is no address: http:// or https:// is wanted in front")
    shown = _of_variables() if key is None else key
    if shown and not (shown.isascii() and shown.isprintable()):
        raise ValueError("the key holds a character that no header can carry")
    return Settings(address, {"Authorization": f"Bearer {shown}"} if shown else {})


def _of_variables() -> str:
    """The admin's variable or file before the other's; of several keys the first, as the server takes them all."""
    for name in ("SOFTPROMPT_ADMIN_KEY", "SOFTPROMPT_API_KEY"):
        told = os.environ.get(name) or _of_file(f"{name}_FILE")
        keys = [key.strip() for key in told.replace("\n", ",").split(",")]
        if any(keys):
            return next(key for key in keys if key)
    return ""


def _of_file(variable: str) -> str:
    path = os.environ.get(variable)
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        raise ValueError(f"the file that {variable} names cannot be read") from None
