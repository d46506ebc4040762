"""Learn tasks on a frozen base: `from tuning import tune`. Nothing is imported before it is asked for."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuning.api import Learnt, tune

__all__ = ["Learnt", "tune"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tuning import api  # noqa: PLC0415 - torch takes seconds, and the splits of data sets need none

    return getattr(api, name)
