"""A file of requests answered, or rendered: what may fail alone and what ends the run, progress, the last word.

Knows lines and the client; how many are in flight at once is `flight`'s to keep.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from cli.client import FAILED, INTERRUPTED, asking, fail, note, told
from cli.flight import fly
from cli.lines import Answers, Line, ResumeError, read
from cli.progress import progress
from server.errors import table
from softprompt_client import SoftpromptError

STANDARD = Path("-")
PATIENCE = 6
"""Retries: a server that starts again within some fifteen seconds goes on being asked."""
OF_ONE_TASK = frozenset(
    {"corrupt", "non_finite_output", "quarantined", "unsupported_kind", "version_not_visible", "wrong_base"}
)
"""Codes of 503 that say nothing about the next line."""
OF_THE_KEY = frozenset({401, 403, 429})
OF_THE_ADDRESS = frozenset({"not_found", "method_not_allowed"})
OF_ONE_LINE = OF_ONE_TASK | frozenset(
    code for code, status, _, _ in table() if status < 500 and status not in OF_THE_KEY and code not in OF_THE_ADDRESS
)
"""Codes that are one line's own; whatever else is said, a proxy's page too, ends the run."""


@dataclass(frozen=True, slots=True)
class Job:
    """What `softprompt generate --file` was told. `task` and `parameters`: of lines that name none."""

    file: Path
    out: Path
    task: str | None
    parameters: Mapping[str, Any]
    seed: int
    concurrency: int
    url: str | None


def answer_file(job: Job) -> int:
    """The exit code. Every answer that comes is in `out` before anything else is said."""
    if STANDARD not in {job.out, job.file} and job.out.resolve() == job.file.resolve():
        fail("--out is --file: the answers would stand behind the requests")
    with ExitStack() as stack:
        lines, total = _lines(job, stack)
        answers, lines = _answers(job, stack, lines)
        client = stack.enter_context(asking(job.url, retries=PATIENCE))
        tick = stack.enter_context(progress(total, answers.kept))

        def write(line: Line, answer: Mapping[str, Any]) -> None:
            answers.write(line, answer)
            tick(1)

        code = _flown(lines, partial(_ask, client.generate_request), write, job, client.url)
        code = _closed(answers, job) or code
    kept = f", {answers.kept} of them there already" if answers.kept else ""
    note(f"{answers.kept + answers.written} lines answered{kept}{_failures(answers)}")
    if code:
        note(f"stopped; {_again(job)}")
    return code or int(bool(answers.failures))


def render_file(job: Job) -> int:
    """What would be sent, one JSON object a line on stdout; `out` is not touched."""
    longest, tokens = 0, 0
    with ExitStack() as stack:
        lines, total = _lines(job, stack)
        answers = Answers(sys.stdout.buffer)
        client = stack.enter_context(asking(job.url, retries=PATIENCE))
        tick = stack.enter_context(progress(total, 0))

        def write(line: Line, found: Mapping[str, Any]) -> None:
            nonlocal longest, tokens
            counts = found.get("counts", {"total_tokens": 0})
            longest, tokens = max(longest, counts["total_tokens"]), tokens + counts["total_tokens"]
            answers.write(line, {name: value for name, value in found.items() if name not in {"ids", "slots"}})
            tick(1)

        code = _flown(lines, partial(_ask, client.render_request), write, job, client.url)
        code = _closed(answers, job) or code
    note(f"{answers.written} lines would be sent, {tokens} tokens, the longest {longest}{_failures(answers)}")
    return code or int(bool(answers.failures))


def _ask(send: Callable[[Mapping[str, Any]], Mapping[str, Any]], line: Line) -> Mapping[str, Any]:
    """The answer, or the error that is this line's own. Raises SoftpromptError for one that is not."""
    if line.error is not None:
        return {"error": line.error}
    try:
        return send(line.request)
    except SoftpromptError as error:
        if _ends_the_run(error):
            raise
        return {"error": {"code": error.code, "message": error.message, "param": error.param}}


def _ends_the_run(error: SoftpromptError) -> bool:
    """Whether the next line would fare no better: nobody of ours answers, nobody may ask, the server is at fault."""
    return error.status is None or error.code not in OF_ONE_LINE


def _flown(
    lines: Iterator[Line],
    ask: Callable[[Line], Mapping[str, Any]],
    write: Callable[[Line, Mapping[str, Any]], None],
    job: Job,
    url: str,
) -> int:
    try:
        fly(lines, ask, write, job.concurrency)
    except SoftpromptError as error:
        note(told(error, url))
        return FAILED
    except OSError as error:
        note(f"{job.out} cannot be written: {error.strerror}")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _closed(answers: Answers, job: Job) -> int:
    try:
        answers.close()
    except OSError as error:
        note(f"{job.out} cannot be written: {error.strerror}")
        return FAILED
    return 0


def _lines(job: Job, stack: ExitStack) -> tuple[Iterator[Line], int | None]:
    """The requests, and how many lines there are where that can be known."""
    if job.file == STANDARD:
        return read(sys.stdin.buffer, job.task, job.parameters, job.seed), None
    try:
        stream: BinaryIO = stack.enter_context(job.file.open("rb"))
        total = None
        if stream.seekable():
            total = sum(not line.isspace() for line in stream)
            stream.seek(0)
    except OSError as error:
        fail(f"{job.file} cannot be read: {error.strerror}")
    return read(stream, job.task, job.parameters, job.seed), total


def _answers(job: Job, stack: ExitStack, lines: Iterator[Line]) -> tuple[Answers, Iterator[Line]]:
    """Where the answers go, and the lines that have none there yet."""
    if job.out == STANDARD:
        return Answers(sys.stdout.buffer), lines
    try:
        answers = Answers.open(job.out)
        stack.callback(answers.close)
        return answers, answers.follow(lines)
    except OSError as error:
        fail(f"{job.out} cannot be written: {error.strerror}")
    except ResumeError as error:
        fail(f"{job.out}: {error}; other requests want another --out")


def _failures(answers: Answers) -> str:
    """How many of all lines failed, and of what."""
    if not answers.failures:
        return ""
    codes = ", ".join(f"{count} {code}" for code, count in answers.failures.most_common())
    return f", {answers.failures.total()} of them with an error ({codes})"


def _again(job: Job) -> str:
    if STANDARD in {job.out, job.file}:
        return "what was written is whole"
    return "the same command goes on from here"
