"""Conversations as the base's own chat template writes them, each rendered in a process beside the server's.

A template is a program of the base's makers. transformers' sandbox keeps it from files and the network; nothing keeps
it from taking for ever, or all memory, and no thread can be stopped in the middle of that. A process can: the kernel
ends it at its limit, and the next conversation has another. Knows the template; no tasks, no HTTP.
"""

import json
import subprocess  # nosec B404  # a program of ours is run
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

PROGRAM = Path(__file__).parent / "chat_child.py"
SECONDS = 2.0
"""Of CPU, that a conversation may take; a usual one takes a thousandth."""
MOST_CHARACTERS = 2**24
PROBE = ({"role": "user", "content": "Hello"},)


class ChatError(ValueError):
    """The base's chat template takes no such conversation."""


class _EndedError(ChatError):
    """The process was ended at a limit, or ended itself."""


class Chat:
    """Of one base. `template` and `special`: the tokenizer's, None where it has no template. To be closed."""

    def __init__(self, template: str | None, special: Mapping[str, Any]) -> None:
        self._template, self._special = template, special
        self._off = "this base has no chat template" if template is None else None
        self._turns = CapacityLimiter(1)
        self._process: subprocess.Popen[bytes] | None = None

    async def probe(self) -> str | None:
        """Tries the template on a short conversation, and switches it off where that finds no end. Gives the reason."""
        try:
            await self.render(PROBE, answer=True)
        except _EndedError:
            self._off = f"this base's chat template takes more than {SECONDS:g} seconds, or crashes, on a greeting"
            return self._off
        except ChatError:  # it may want another first message
            return None
        return None

    async def render(self, messages: Sequence[Mapping[str, str]], answer: bool) -> str:
        """The conversation as one text, special tokens by name, up to where the `answer` begins. Raises ChatError."""
        return await run_sync(self._render, messages, answer, limiter=self._turns)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            with suppress(BrokenPipeError), self._process:  # closes its pipes and waits
                pass
            self._process = None

    def _render(self, messages: Sequence[Mapping[str, str]], answer: bool) -> str:
        if self._off is not None:
            raise ChatError(self._off)
        bounds = {"seconds": SECONDS, "characters": MOST_CHARACTERS}
        said = {"template": self._template, "special": self._special, "messages": messages, "answer": answer}
        line = self._answered(json.dumps({**said, **bounds}).encode() + b"\n")
        if not line:
            self.close()
            raise _EndedError("this base's chat template found no end of this conversation")
        text: str | None = json.loads(line)
        if text is None:
            raise ChatError("this base's chat template takes no such conversation")
        return text

    def _answered(self, line: bytes) -> bytes:
        """Nothing where the process has ended."""
        if self._process is None:
            self._process = subprocess.Popen(  # noqa: S603 - our own program  # nosec B603
                [sys.executable, "-P", str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        into, out = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        with suppress(BrokenPipeError):
            into.write(line)
            into.flush()
            return out.readline()
        return b""
