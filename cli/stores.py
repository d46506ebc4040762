"""Which store a command works on, opened without a server. Knows locations; nothing of tasks."""

from pathlib import Path
from typing import Annotated

from pydantic import ValidationError
from typer import Option

from prompt_store.errors import StoreUnsuitable
from prompt_store.marker import MARKER
from prompt_store.store import Store
from server.config import Settings

Location = Annotated[
    str | None,
    Option("--store", help="A directory or a bucket. Default SOFTPROMPT_STORE, or .store.", show_default=False),
]
IN_MEMORY = "memory://"


def location(given: str | None) -> str:
    """As `serve` would choose. Raises ValueError where its settings cannot be read."""
    if given is not None and not given.strip():
        raise ValueError("--store names no place")
    if given is not None:
        return given
    try:
        return Settings().store
    except ValidationError as error:
        raise ValueError(f"the SOFTPROMPT_ variables do not fit together: {error.error_count()} faults") from None


def is_new(place: str) -> bool:
    """Whether nothing was kept there yet. Raises StoreUnavailable."""
    if "://" not in place:
        return not (Path(place) / MARKER).is_file()
    try:
        Store.open(place, make=False).check()
    except StoreUnsuitable:
        return True
    return False


def opened(place: str, *, make: bool = False) -> Store:
    """Raises ValueError or StoreError. Only `make` makes a store: an empty mount point is none to look after."""
    if place == IN_MEMORY:
        raise ValueError("memory:// lives inside one server: there is nothing for a command to work on")
    if not make and "://" not in place and is_new(place):
        raise ValueError(f"{place} is no store: a store's directory holds a {MARKER}")
    return Store.open(place, make=make)
