"""A running process in a control group of its own, with little memory or little of a core: version 1 or 2, as root."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from tests.server.site import until
from tests.tools import absent

ROOT = Path("/sys/fs/cgroup")
PERIOD = 100_000
"""Microseconds."""
Controller = Literal["cpu", "memory"]


def cpu(share: float) -> tuple[Controller, Mapping[str, str]]:
    """So much of one core, by the names of version 1 and 2."""
    quota = str(round(share * PERIOD))
    return "cpu", {"cpu.cfs_period_us": str(PERIOD), "cpu.cfs_quota_us": quota, "cpu.max": f"{quota} {PERIOD}"}


def memory(size: int) -> tuple[Controller, Mapping[str, str]]:
    """Bytes on top of what the process has when it is put there."""
    return "memory", {"memory.limit_in_bytes": str(size), "memory.max": str(size)}


def _parent(controller: Controller) -> Path:
    """The group that this process is in. Skips where there is none."""
    for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return ROOT / controller / path.lstrip("/")
        if not controllers and f" {controller} " in f" {_controllers(ROOT / path.lstrip('/'))} ":
            return ROOT / path.lstrip("/")
    return absent(f"no control group limits {controller} here")


def _controllers(group: Path) -> str:
    try:
        return (group / "cgroup.controllers").read_text(encoding="ascii").strip()
    except OSError:
        return ""


@contextmanager
def limited(to: tuple[Controller, Mapping[str, str]], pid: int) -> Iterator[None]:
    """Inside, `pid` has no more; afterwards it is back where it was, if it lives. Skips where that is not allowed."""
    controller, limits = to
    parent = _parent(controller)
    group = parent / f"softprompt-{os.getpid()}"
    try:
        with suppress(OSError):  # version 2 hands a controller down only where it is told to
            (parent / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")
        group.mkdir()
        for name, value in limits.items():
            if (group / name).exists():
                (group / name).write_text(value, encoding="ascii")
        (group / "cgroup.procs").write_text(str(pid), encoding="ascii")
    except OSError as error:
        with suppress(OSError):
            group.rmdir()
        absent(f"{parent} takes no group of ours: {error.strerror}")
    try:
        yield
    finally:
        with suppress(OSError):
            (parent / "cgroup.procs").write_text(str(pid), encoding="ascii")
        until(lambda: _removed(group), "the group is empty")


def _removed(group: Path) -> bool:
    """A process that has just died is counted for a moment longer."""
    with suppress(OSError):
        group.rmdir()
    return not group.exists()
