"""Something done before the N-th call by which this process changes the disk; or fsyncs that do nothing.

For the children of a test alone: nothing is put back.
"""

import os
import stat
from collections.abc import Callable
from typing import Any, Literal

CALLS = ("open", "mkdir", "write", "fsync", "link", "unlink", "replace")
Without = Literal["file", "folders", "all"]


def before_call(number: int, do: Callable[[], None]) -> None:
    """`do` before the `number`-th call of this process, counted from 1, and never again."""
    left = number
    opens = os.open

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= real is not opens or bool(arguments[1] & os.O_CREAT)
            if left == 0:
                left = -1
                do()
            return real(*arguments, **options)

        return run

    for call in CALLS:
        setattr(os, call, counted(getattr(os, call)))


def without_fsync(of: Without) -> None:
    """The mistake that a power cut punishes."""
    real = os.fsync

    def fsync(fd: Any) -> None:
        is_folder = stat.S_ISDIR(os.fstat(fd).st_mode)
        if of != "all" and is_folder == (of == "file"):
            real(fd)

    os.fsync = fsync
