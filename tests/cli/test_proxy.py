"""`softprompt generate` when something else answers than a softprompt server: no line may keep what it says."""

import json
from pathlib import Path

import pytest

from cli.answering import OF_ONE_LINE
from server.errors import table
from tests.cli.conftest import Softprompt
from tests.softprompt_client.conftest import response, scripted

PAGE = b"<html><body>Welcome</body></html>"
FOREIGN = b'{"error": {"message": "x", "type": "x", "param": null, "code": "DeploymentNotFound"}}'
LOST = b'{"error": {"message": "no such path", "type": "not_found_error", "param": null, "code": "not_found"}}'
SAID = (
    *((status, PAGE) for status in (200, 307, 400, 404, 405, 408, 413, 502)),
    *((200, body) for body in (b"{}", b"[]", b"null", b'{"generated_text": null}', b'{"responses": []}')),
    (404, b'{"detail": "Not Found"}'),
    (404, FOREIGN),
    (404, LOST),
)
ONE = '{"task": "t", "inputs": "x"}\n'


@pytest.mark.parametrize("more", [("--out", "out"), ("--dry-run",)], ids=["answered", "rendered"])
@pytest.mark.parametrize(("status", "body"), SAID)
def test_what_a_proxy_says_ends_the_run_and_is_no_answer(
    softprompt: Softprompt, tmp_path: Path, status: int, body: bytes, more: tuple[str, ...]
) -> None:
    """Nothing is written, and the reason stands in a line."""
    (tmp_path / "in").write_text(ONE * 2)
    with scripted(response(status, body)) as server:
        done = softprompt("generate", "--file", "in", *more, "--concurrency", "1", SOFTPROMPT_URL=server.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    first, *counted = done.stderr.splitlines()
    assert first.startswith(f"softprompt: {status} ")
    assert counted[0].startswith("softprompt: 0 lines")
    assert more == ("--dry-run",) or (tmp_path / "out").read_bytes() == b""


@pytest.mark.parametrize("body", [PAGE, b"{}", b"[]", b"null"])
def test_one_input_is_not_answered_by_a_proxy(softprompt: Softprompt, body: bytes) -> None:
    """Nor is an empty text printed."""
    for more in ([], ["--json"], ["--dry-run"]):
        with scripted(response(200, body)) as server:
            done = softprompt("generate", "t", "x", *more, SOFTPROMPT_URL=server.url)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert "200 bad_answer" in done.stderr


def test_a_line_that_asks_for_a_stream_is_told_and_the_next_is_asked(softprompt: Softprompt, tmp_path: Path) -> None:
    """Its answer would be no line."""
    (tmp_path / "in").write_text('{"task": "t", "inputs": "x", "stream": true}\n' + ONE)
    with scripted(response(200, b'{"generated_text": "y"}')) as server:
        done = softprompt("generate", "--file", "in", SOFTPROMPT_URL=server.url)
    refused, answered = map(json.loads, done.stdout.splitlines())
    assert (refused["error"]["code"], answered["generated_text"]) == ("invalid_request", "y")
    assert done.returncode == 1


def test_what_may_be_one_lines_error_is_of_the_servers_table() -> None:
    """Every code of ours below 500 but those of the key, the queue and the address."""
    codes = {code: status for code, status, _, _ in table()}
    assert codes.keys() >= OF_ONE_LINE
    assert {"task_not_found", "context_length_exceeded", "timeout", "corrupt", "unknown_field"} <= OF_ONE_LINE
    assert not {"invalid_api_key", "queue_full", "internal", "not_found", "store_unavailable"} & OF_ONE_LINE
