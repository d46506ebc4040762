"""`softprompt generate` as a process, against a server: one input, and files of them."""

import json
import os
import signal
import subprocess
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import forked
from tests.cli.conftest import COMMAND, SECONDS, Softprompt, environment
from tests.server.site import Site, until
from tests.softprompt_client.conftest import response, scripted

PLACES = (1, 900, 4000, 9000)
"""Bytes of answers after which a run is killed."""


@pytest.fixture
def task(site: Site, request: pytest.FixtureRequest) -> str:
    name = f"g-{abs(hash(request.node.name))}"
    site.publish(name, "Say {input}:", defaults={"max_new_tokens": 3, "ignore_eos": True})
    return name


def write(path: Path, *requests: Any) -> Path:
    path.write_text("".join(json.dumps(request) + "\n" for request in requests))
    return path


def answers(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_input_is_answered(softprompt: Softprompt, site: Site, task: str) -> None:
    """The text alone, or the whole answer; a JSON object is fields."""
    wanted = site.generate("hello", task)["generated_text"]
    assert softprompt("generate", task, "hello").stdout == wanted + "\n"
    assert softprompt("generate", task, '{"input": "hello"}').stdout == wanted + "\n"
    done = softprompt("generate", task, "hello", "--max-new-tokens", "5", "--json")
    assert json.loads(done.stdout)["usage"]["completion_tokens"] == 5


def test_what_would_be_sent_is_shown(softprompt: Softprompt, site: Site, task: str) -> None:
    """Text on stdout, counts on stderr; nothing is generated."""
    before = site.snapshot().counters.generated
    done = softprompt("generate", task, "hello", "--dry-run")
    assert (done.returncode, done.stdout) == (0, "Say hello:\n")
    assert "tokens of text" in done.stderr
    assert json.loads(softprompt("generate", task, "hello", "--dry-run", "--json").stdout)["text"] == "Say hello:"
    assert site.snapshot().counters.generated == before


@pytest.mark.parametrize(
    "arguments",
    [[], ["t"], ["t", "x", "--file", "in"], ["t", "x", "--out", "out"], ["--file", "in", "--concurrency", "0"]],
    ids=str,
)
def test_a_command_that_is_none_is_exit_code_2(softprompt: Softprompt, arguments: list[str]) -> None:
    """With its usage."""
    done = softprompt("generate", *arguments)
    assert done.returncode == 2
    assert "Usage" in done.stderr


def test_a_file_is_answered_in_its_order(softprompt: Softprompt, site: Site, task: str, tmp_path: Path) -> None:
    """Slow lines first, many in flight: each line's answer is the server's to it."""
    requests = [{"inputs": f"{n}", "parameters": {"max_new_tokens": 40 - n}} for n in range(40)]
    file = write(tmp_path / "in.jsonl", *requests)
    done = softprompt("generate", task, "--file", file, "--out", "out.jsonl")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "softprompt: 40 lines answered\n"
    found = answers(tmp_path / "out.jsonl")
    assert [one["line"] for one in found] == list(range(1, 41))
    assert [one["usage"]["completion_tokens"] for one in found] == list(range(40, 0, -1))
    for n in (0, 17, 39):
        assert found[n]["generated_text"] == site.generate(f"{n}", task, max_new_tokens=40 - n)["generated_text"]


def test_a_line_that_fails_holds_its_error_and_the_others_go_on(
    softprompt: Softprompt, task: str, tmp_path: Path
) -> None:
    """Exit code 1, and the last word counts what failed; asked again, nothing is sent and the same is said."""
    file = tmp_path / "in.jsonl"
    good = json.dumps({"task": task, "inputs": "x"})
    bad = ['{"task": "none", "inputs": "x"}', "{", '{"inputs": "x"}', json.dumps({"task": task, "input": "x"})]
    file.write_text("\n".join([bad[0], good, *bad[1:], good]))
    done = softprompt("generate", "--file", file, "--out", "out.jsonl", "--concurrency", "2")
    assert done.returncode == 1
    found = answers(tmp_path / "out.jsonl")
    codes = [one.get("error", {}).get("code") for one in found]
    assert codes == ["task_not_found", None, "invalid_json", "invalid_request", "unknown_field", None]
    assert "6 lines answered, 4 of them with an error (1 task_not_found, 1 invalid_json" in done.stderr
    again = softprompt("generate", "--file", file, "--out", "out.jsonl", SOFTPROMPT_URL="http://127.0.0.1:1")
    assert again.returncode == 1
    assert "6 lines answered, 6 of them there already, 4 of them with an error" in again.stderr


def test_standard_streams_may_be_used(softprompt: Softprompt, task: str) -> None:
    """`-` is stdin, and stdout is where answers go when nothing is said."""
    done = softprompt("generate", task, "--file", "-", stdin='{"inputs": "a"}\n{"inputs": "b"}\n')
    assert [json.loads(line)["line"] for line in done.stdout.splitlines()] == [1, 2]
    same = softprompt("generate", task, "--file", "-", "--out", "-", stdin='{"inputs": "a"}\n{"inputs": "b"}\n')
    assert same.stdout == done.stdout


def test_a_slow_pipe_is_answered_line_by_line(site: Site, task: str) -> None:
    """An answer does not wait for the next request."""
    command: list[str | Path] = [COMMAND, "generate", task, "--file", "-"]
    with subprocess.Popen(
        command, env=environment(site.url), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in (1, 2):
            process.stdin.write(b'{"inputs": "a"}\n')
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["line"] == number
        process.stdin.close()
        assert process.wait(SECONDS) == 0


@pytest.fixture
def many(tmp_path: Path, task: str) -> Path:
    return write(tmp_path / "in.jsonl", *({"task": task, "inputs": f"text {n}"} for n in range(60)))


def grown(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size >= size


def started(site: Site, file: Path, out: Path) -> forked.Forked:
    command = ["generate", "--file", str(file), "--out", str(out), "--concurrency", "2"]
    return forked.started(command, {"SOFTPROMPT_URL": site.url})


def test_a_killed_run_goes_on_to_the_same_bytes(softprompt: Softprompt, site: Site, many: Path, tmp_path: Path) -> None:
    """SIGKILL at several places, each time into what the last one left: as if nothing had happened."""
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert softprompt("generate", "--file", many, "--out", whole).returncode == 0
    for place in PLACES:
        with started(site, many, out) as process:
            until(partial(grown, out, place), f"{place} bytes of answers")
            process.kill()
        assert process.returncode == -signal.SIGKILL
        assert place <= out.stat().st_size < whole.stat().st_size
        with out.open("ab") as stream:
            stream.write(whole.read_bytes()[out.stat().st_size :][:40])  # as if a write had been cut
    done = softprompt("generate", "--file", many, "--out", out)
    assert done.returncode == 0
    assert "of them there already" in done.stderr
    assert out.read_bytes() == whole.read_bytes()


def test_an_interrupt_ends_a_run_in_good_order(softprompt: Softprompt, site: Site, many: Path, tmp_path: Path) -> None:
    """What is in flight is written, the way on is said, and the exit code is 130."""
    out = tmp_path / "out.jsonl"
    with started(site, many, out) as process:
        until(partial(grown, out, 1), "an answer")
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert "stopped; the same command goes on from here" in said
    assert 0 < len(answers(out)) < 60
    assert softprompt("generate", "--file", many, "--out", out).returncode == 0
    assert [one["line"] for one in answers(out)] == list(range(1, 61))


def test_a_server_that_goes_away_stops_the_run_and_spoils_no_line(
    softprompt: Softprompt, site: Site, task: str, tmp_path: Path
) -> None:
    """The lines that were not answered are not written as errors: the same command answers them."""
    file = write(tmp_path / "in.jsonl", *({"task": task, "inputs": f"{n}"} for n in range(4)))
    good, broken = response(200, b'{"generated_text": "x"}'), response(500, b'{"error": {"code": "internal"}}')
    with scripted(good, broken) as server:
        done = softprompt("generate", "--file", file, "--out", "out", "--concurrency", "1", SOFTPROMPT_URL=server.url)
    assert done.returncode == 1
    assert "500 internal" in done.stderr
    assert "stopped; the same command goes on from here" in done.stderr
    assert len(answers(tmp_path / "out")) == 1


def test_a_server_that_starts_again_is_waited_for(
    softprompt: Softprompt, site: Site, task: str, tmp_path: Path
) -> None:
    """503 in between costs a moment and no line."""
    file = write(tmp_path / "in.jsonl", {"task": task, "inputs": "x"})
    busy = response(503, b'{"error": {"code": "draining"}}', Retry_After="0")
    with scripted(busy, busy, response(200, b'{"generated_text": "x"}')) as server:
        done = softprompt("generate", "--file", file, "--out", "out", SOFTPROMPT_URL=server.url)
    assert done.returncode == 0, done.stderr


def test_other_requests_than_those_answered_are_refused(softprompt: Softprompt, task: str, tmp_path: Path) -> None:
    """The answers stay; as does a file that is the requests themselves, and one that cannot be read."""
    file = write(tmp_path / "in.jsonl", {"task": task, "inputs": "x"})
    assert softprompt("generate", "--file", file, "--out", "out").returncode == 0
    before = (tmp_path / "out").read_bytes()
    write(file, {"task": task, "inputs": "y"})
    done = softprompt("generate", "--file", file, "--out", "out")
    assert done.returncode == 1
    assert "out: line 1 of the answers is not that of line 1 of the requests; other requests" in done.stderr
    assert (tmp_path / "out").read_bytes() == before
    (tmp_path / "diary").write_text("no line feed")
    done = softprompt("generate", "--file", file, "--out", "diary")
    assert (done.returncode, (tmp_path / "diary").read_text()) == (1, "no line feed")
    assert "diary: the end, behind 0 answers, is no half answer of the next request" in done.stderr
    assert "--out is --file" in softprompt("generate", "--file", file, "--out", file).stderr
    assert "absent cannot be read" in softprompt("generate", "--file", "absent").stderr


def test_a_file_is_rendered_and_nothing_generated(
    softprompt: Softprompt, site: Site, task: str, tmp_path: Path
) -> None:
    """What would be sent, counts, and each line's error; `--out` is not touched."""
    file = write(tmp_path / "in.jsonl", {"task": task, "inputs": "x"}, {"task": "none", "inputs": "x"})
    before = site.snapshot().counters.generated
    done = softprompt("generate", "--file", file, "--out", "out", "--dry-run")
    one, other = map(json.loads, done.stdout.splitlines())
    assert (one["line"], one["text"], "ids" in one) == (1, "Say x:", False)
    assert other["error"]["code"] == "task_not_found"
    assert done.returncode == 1
    assert f"2 lines would be sent, {one['counts']['total_tokens']} tokens" in done.stderr
    assert not (tmp_path / "out").exists()
    assert site.snapshot().counters.generated == before


def test_a_bar_is_drawn_on_a_terminal_alone(site: Site, task: str, tmp_path: Path) -> None:
    """On a real one, with the lines that are done and how many there are."""
    file = write(tmp_path / "in.jsonl", *({"task": task, "inputs": f"{n}"} for n in range(20)))
    ours, theirs = os.openpty()
    seen: list[bytes] = []

    def read() -> None:
        try:
            while piece := os.read(ours, 65536):
                seen.append(piece)
        except OSError:
            return  # the other end is closed

    reader = threading.Thread(target=read)
    reader.start()
    command: list[str | Path] = [COMMAND, "generate", "--file", file, "--out", tmp_path / "out"]
    done = subprocess.run(
        command, env={**environment(site.url), "TERM": "xterm"}, stderr=theirs, check=False, timeout=SECONDS
    )
    os.close(theirs)
    reader.join()
    os.close(ours)
    assert done.returncode == 0
    assert b"20/20" in b"".join(seen)
