"""Where the server is and which key is shown: arguments, else variables. The only reader of the environment here."""

import os
from dataclasses import dataclass
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
    """What is given, else SOFTPROMPT_URL, and SOFTPROMPT_ADMIN_KEY before SOFTPROMPT_API_KEY: the first of each list.

    Raises ValueError for an address without http:// or https://, and for a key that no header can carry.
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
    keys = os.environ.get("SOFTPROMPT_ADMIN_KEY") or os.environ.get("SOFTPROMPT_API_KEY") or ""
    return keys.split(",")[0].strip()
