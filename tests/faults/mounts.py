"""File systems of a test's own: an image of XFS or ext4 whose power can be cut, and a tmpfs of any size.

Whether this machine may mount is tried once. A program that is started with PRIVATE has its mounts to itself, and they
end with it, however it ends; whoever mounts without it unmounts in the end. Linux, as root.
"""

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import pytest

FileSystem = Literal["xfs", "ext4"]
FILE_SYSTEMS: tuple[FileSystem, ...] = get_args(FileSystem)
PRIVATE = ("unshare", "--mount", "--propagation", "private")
SHUTDOWN = 0x8004587D
"""ioctl of XFS, ext4 and others: no write reaches the disk from here on."""
LOG_LOST, LOG_KEPT = 2, 1
"""What becomes of the journal that is still in memory: nothing, or it is the last thing to be written."""
MAKE = {"xfs": ["mkfs.xfs", "-q", "-f"], "ext4": ["mkfs.ext4", "-q", "-F"]}
SIZE = {"xfs": 300 * 2**20, "ext4": 64 * 2**20}
OPTIONS = {"xfs": "loop", "ext4": "loop,noauto_da_alloc"}
"""ext4's own guess that a rename wants its data flushed is switched off: what is not fsynced is lost."""


class Image:
    """A file with a file system in it, mounted at `at`."""

    def __init__(self, folder: Path, kind: FileSystem) -> None:
        self._file = folder / f"{kind}.image"
        self._kind = kind
        self.at = folder / kind
        self.at.mkdir()
        with self._file.open("wb") as file:
            file.truncate(SIZE[kind])
        subprocess.run([*MAKE[kind], str(self._file)], check=True, capture_output=True)

    def mount(self) -> None:
        subprocess.run(
            ["mount", "-t", self._kind, "-o", OPTIONS[self._kind], str(self._file), str(self.at)], check=True
        )

    def unmount(self) -> None:
        """The loop device goes with it."""
        subprocess.run(["umount", str(self.at)], check=True)

    def remount(self) -> None:
        """The power comes back."""
        self.unmount()
        self.mount()


def cut(folder: Path, how: int) -> None:
    """The power of the file system that `folder` is on."""
    file = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(file, SHUTDOWN, struct.pack("I", how))
    finally:
        os.close(file)


@contextmanager
def image(folder: Path, kind: FileSystem) -> Iterator[Image]:
    """Mounted, and unmounted in the end."""
    made = Image(folder, kind)
    made.mount()
    try:
        yield made
    finally:
        made.unmount()


@contextmanager
def tmpfs(at: Path, options: str) -> Iterator[Path]:
    """As large as `options` say, at `at`."""
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


TRIAL = "mount -t tmpfs tmpfs /mnt && truncate -s 64M /mnt/i && mkfs.ext4 -qF /mnt/i && mount -o loop /mnt/i /media"


@cache
def mountable() -> bool:
    """Whether a tmpfs and a loop image can be mounted here, found by doing it."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("mkfs.ext4") is None:
        return False
    return subprocess.run([*PRIVATE, "sh", "-c", TRIAL], capture_output=True, check=False).returncode == 0


def demand_mounts() -> None:
    """Skips where this user or machine cannot mount."""
    if not mountable():
        pytest.skip("file systems cannot be mounted here: not root, or a container that forbids it")
