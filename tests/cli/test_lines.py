"""Which requests a file holds, and where a stopped run goes on, at whatever byte it stopped."""

import json
from pathlib import Path
from typing import Any

import pytest

from cli.lines import Answers, Line, ResumeError, read

REQUESTS = [{"task": "a", "inputs": "é\u2028x"}, {"inputs": {"text": "y"}}, {"task": "b", "inputs": "z"}]


def lines(*given: Any, task: str | None = "t", **parameters: Any) -> list[Line]:
    return list(read([json.dumps(one).encode() + b"\n" for one in given], task, parameters))


def answer(path: Path, wanted: list[Line]) -> int:
    """Answers what is not answered; how many were."""
    answers = Answers.open(path)
    try:
        for line in answers.follow(iter(wanted)):
            answers.write(line, {"generated_text": f"answer\n{line.number} é"})
    finally:
        answers.close()
    return answers.kept


def test_a_run_that_stopped_at_any_byte_goes_on(tmp_path: Path) -> None:
    """The file is the one of an undisturbed run, and what was whole was not asked again."""
    wanted = lines(*REQUESTS)
    assert answer(tmp_path / "whole", wanted) == 0
    whole = (tmp_path / "whole").read_bytes()
    for size in range(len(whole) + 1):
        (tmp_path / "cut").write_bytes(whole[:size])
        assert answer(tmp_path / "cut", wanted) == whole[:size].count(b"\n")
        assert (tmp_path / "cut").read_bytes() == whole


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (lines(REQUESTS[1], *REQUESTS[1:]), "line 1 of the answers is not that of line 1"),
        (lines(REQUESTS[0], REQUESTS[2], REQUESTS[1]), "line 2 of the answers is not that of line 2"),
        (lines(*REQUESTS, task="other"), "line 2 of the answers"),
        (lines(*REQUESTS, temperature=1), "line 1 of the answers"),
        (lines(*REQUESTS[:2]), "line 3 of the answers has no request"),
    ],
)
def test_other_requests_are_refused_and_nothing_is_lost(tmp_path: Path, other: list[Line], said: str) -> None:
    """Changed, swapped, asked of another task, in another way, or fewer."""
    path = tmp_path / "out"
    answer(path, lines(*REQUESTS))
    before = path.read_bytes() + b'{"half'
    path.write_bytes(before)
    with pytest.raises(ResumeError, match=said):
        answer(path, other)
    assert path.read_bytes() == before


def test_more_requests_may_be_added(tmp_path: Path) -> None:
    """Behind those that are answered."""
    answer(tmp_path / "out", lines(*REQUESTS))
    assert answer(tmp_path / "out", lines(*REQUESTS, REQUESTS[0])) == 3


@pytest.mark.parametrize(
    "tail", ["a diary", "{}", "\0" * 40, '{"line": 9', '{"line": 1, "asked": "!', "a,b\r1,2\r", " "]
)
@pytest.mark.parametrize("kept", [0, 1, 3])
def test_an_end_that_is_no_half_answer_is_left_alone(tmp_path: Path, kept: int, tail: str) -> None:
    """Of a file without a line feed, and behind whole answers: only what the next answer would begin with is cut."""
    path = tmp_path / "out"
    answer(path, lines(*REQUESTS)[:kept])
    before = path.read_bytes() + tail.encode()
    path.write_bytes(before)
    with pytest.raises(ResumeError, match=f"behind {kept} answers"):
        answer(path, lines(*REQUESTS))
    assert path.read_bytes() == before


def test_half_an_answer_without_its_request_is_left_alone(tmp_path: Path) -> None:
    """Nothing says that it was one."""
    path = tmp_path / "out"
    answer(path, lines(*REQUESTS))
    path.write_bytes(before := path.read_bytes()[:-5])
    with pytest.raises(ResumeError, match="behind 2 answers"):
        answer(path, lines(*REQUESTS[:2]))
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["a diary\n", "{}\n", "[1]\n", "\n"])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, text: str) -> None:
    """Answers are not put behind it."""
    (tmp_path / "out").write_text(text)
    with pytest.raises(ResumeError, match="line 1 of the answers is none"):
        answer(tmp_path / "out", lines(*REQUESTS))
    assert (tmp_path / "out").read_text() == text


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    """The second is told."""
    first = Answers.open(tmp_path / "out")
    with pytest.raises(ResumeError, match="another process"):
        Answers.open(tmp_path / "out")
    first.close()
    assert answer(tmp_path / "out", lines(*REQUESTS)) == 0


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"{", "invalid_json"),
        (b'{"inputs": NaN}', "invalid_json"),
        (b'{"inputs": 1e999}', "invalid_json"),
        (b'{"inputs": "\\ud800"}', "invalid_json"),
        (b'{"inputs": "a", "inputs": "b"}', "invalid_json"),
        (b"\xff", "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'"text"', "invalid_request"),
        (b'{"inputs": "x", "stream": true}', "invalid_request"),
    ],
)
def test_a_line_that_cannot_be_sent_says_why(raw: bytes, code: str) -> None:
    """And is a line like any other: the next one is read."""
    bad, good = read([raw + b"\n", b'{"inputs": "x"}'], "t", {})
    assert bad.error is not None
    assert (bad.number, bad.error["code"]) == (1, code)
    assert (good.number, good.request["task"], good.request["inputs"]) == (2, "t", "x")


def test_a_line_says_more_than_the_options() -> None:
    """Its own task and parameters win; blank lines and a byte order mark are no requests; unknown fields are sent."""
    raw = [
        b"\xef\xbb\xbf\n",
        b"\n",
        b'{"task": "b", "inputs": "x", "parameters": {"n": 2, "seed": 5}, "colour": 1}\r\n',
        b"  \n",
    ]
    (line,) = read(raw, "a", {"n": 1, "temperature": 0})
    assert line.number == 3
    assert line.request == {
        "task": "b",
        "inputs": "x",
        "parameters": {"n": 2, "temperature": 0, "seed": 5},
        "colour": 1,
    }


def test_a_line_without_a_task_needs_the_argument() -> None:
    """The bare model is named, never meant."""
    (line,) = lines({"inputs": "x"}, task=None)
    assert line.error is not None
    assert "without a task" in line.error["message"]


def test_what_is_drawn_depends_on_the_line_and_the_seed_alone() -> None:
    """Equal lines draw differently, and each the same when it is asked again."""
    raw = [b'{"inputs": "x"}'] * 2

    def seeds(seed: int) -> list[int]:
        return [line.request["parameters"]["seed"] for line in read(raw, "t", {}, seed)]

    assert seeds(0) == seeds(0)
    assert len({*seeds(0), *seeds(1)}) == 4
