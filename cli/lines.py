"""A file of requests, one a line, and the file of their answers: which line is which, and where a stopped run goes on.

Each answer says the number of its line and a digest of what was asked: so the file of answers alone tells whether it
belongs to these requests. Knows no server.
"""

import fcntl
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Self

ASKED = 16
"""Characters of a digest that tell one request from another."""


class ResumeError(Exception):
    """The answers that are there are not those of these requests."""


@dataclass(frozen=True, slots=True)
class Line:
    """`number` from 1; `request` as it is sent, or `error`: why it cannot be. `asked`: the digest of either."""

    number: int
    asked: str
    request: dict[str, Any]
    error: dict[str, Any] | None = None


def read(stream: Iterable[bytes], task: str | None, parameters: Mapping[str, Any], seed: int = 0) -> Iterator[Line]:
    """Every line that is not blank. `task` and `parameters` are those of lines that name none themselves.

    A line without a seed gets one of `seed` and its number: asked again, it is answered as before.
    """
    for number, raw in enumerate(stream, 1):
        if text := (raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw).strip():
            yield _line(number, text, task, {"seed": _seed(seed, number), **parameters})


def _seed(seed: int, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:8]) % 2**53


def _line(number: int, text: bytes, task: str | None, parameters: Mapping[str, Any]) -> Line:
    try:
        given = json.loads(text, parse_constant=_no_number, object_pairs_hook=_object)
        whole = _request(given, task, parameters)
        sent = json.dumps(whole, ensure_ascii=False, allow_nan=False, sort_keys=True).encode()
    except RecursionError:
        return _unsent(number, text, "invalid_json", "the line is nested too deeply")
    except TypeError as error:
        return _unsent(number, text, "invalid_request", str(error))
    except ValueError:
        return _unsent(number, text, "invalid_json", "the line is not JSON, or names a field twice")
    return Line(number, _digest(sent), json.loads(sent))


def _request(given: Any, task: str | None, parameters: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise TypeError('a line is an object: {"task": ..., "inputs": ..., "parameters": {...}}')
    if "task" not in given and task is None:
        raise TypeError("a line without a task, and none as the argument (base is the bare model)")
    if given.get("stream"):
        raise TypeError("an answer is a line: it cannot be a stream")
    own = given.get("parameters", {})
    whole = {**({"task": task} if task is not None else {}), **given}
    return {**whole, "parameters": {**parameters, **own} if isinstance(own, dict) else own}


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a field twice")
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _unsent(number: int, text: bytes, code: str, message: str) -> Line:
    return Line(number, _digest(text), {}, {"code": code, "message": message, "param": None})


def _head(line: Line) -> dict[str, Any]:
    """What every answer begins with."""
    return {"line": line.number, "asked": line.asked}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:ASKED]


class Answers:
    """Where answers go, in order. `kept`: lines that were there, `written`: new ones, `failures`: codes of all."""

    def __init__(self, stream: BinaryIO, *, resumable: bool = False) -> None:
        self._stream = stream
        self._resumable = resumable
        self._spoilt = False
        self.kept = 0
        self.written = 0
        self.failures: Counter[str] = Counter()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Goes on behind what is there. Raises OSError, or ResumeError while another process writes."""
        if path.exists() and not path.is_file():
            return cls(path.open("wb"))  # a pipe or a device: nothing is there
        stream = path.open("a+b")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            raise ResumeError("another process writes it") from None
        return cls(stream, resumable=True)

    def follow(self, lines: Iterator[Line]) -> Iterator[Line]:
        """Those of `lines` that are not answered yet; cuts off half an answer of the first of them.

        Raises ResumeError, with nothing changed, if an answer is not the next line's, or the end is no half of it.
        """
        if not self._resumable:
            return lines
        self._stream.seek(0)
        whole = 0
        for found in self._stream:
            line = next(lines, None)
            if not found.endswith(b"\n"):
                lines = chain([self._halved(found, line)], lines)
                self._stream.truncate(whole)
                break
            self._follow(found, line)
            whole += len(found)
        self._stream.seek(0, os.SEEK_END)
        return lines

    def _halved(self, tail: bytes, line: Line | None) -> Line:
        """The line whose answer `tail` begins, as far as that can be seen: anything else is somebody's."""
        begins = b"" if line is None else json.dumps(_head(line)).encode().removesuffix(b"}")
        if line is None or tail[: len(begins)] != begins[: len(tail)]:
            raise ResumeError(f"the end, behind {self.kept} answers, is no half answer of the next request")
        return line

    def _follow(self, found: bytes, line: Line | None) -> None:
        self.kept += 1
        try:
            answer = json.loads(found)
            said = (answer["line"], answer["asked"])
        except (ValueError, KeyError, TypeError):
            raise ResumeError(f"line {self.kept} of the answers is none") from None
        if line is None:
            raise ResumeError(f"line {self.kept} of the answers has no request")
        if said != (line.number, line.asked):
            raise ResumeError(f"line {self.kept} of the answers is not that of line {line.number} of the requests")
        self._count(answer)

    def write(self, line: Line, answer: Mapping[str, Any]) -> None:
        """One line, handed to the system at once."""
        whole = {**_head(line), **answer}
        try:
            self._stream.write(json.dumps(whole, ensure_ascii=False).encode() + b"\n")
            self._stream.flush()
        except OSError:
            self._spoilt = True
            raise
        self.written += 1
        self._count(whole)

    def close(self) -> None:
        """On the disk, if there is one; twice is once. Raises OSError, but not again what `write` has raised."""
        if self._stream.closed:
            return
        try:
            if self._resumable:
                os.fsync(self._stream)
            if self._stream is not sys.stdout.buffer:
                self._stream.close()
        except OSError:
            if not self._spoilt:
                raise

    def _count(self, answer: Mapping[str, Any]) -> None:
        if "error" in answer:
            self.failures[answer["error"]["code"]] += 1
