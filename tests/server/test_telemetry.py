"""Logging never ends a request."""

import sys

import pytest

from server.telemetry import configure, logger


class Full:
    """A disk without space, as a stream."""

    tried = 0

    def write(self, _: str = "") -> int:
        self.tried += 1
        raise OSError(28, "No space left on device")

    flush = write


def test_lines_that_cannot_be_written_are_lost_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, a reader that has gone."""
    full = Full()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", full)
        configure()
        for _ in range(3):
            logger().info("request")
    configure()
    assert full.tried >= 3
