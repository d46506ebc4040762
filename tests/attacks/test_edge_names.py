"""Task ids that would be paths, and paths that would be others: H11 to H18."""

import re
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.attacks.edge import Edge, posted, put, request
from tests.attacks.victim import Victim
from tests.checkout import ROOT
from tests.server.site import connect, read_answer, status
from tests.tools import tool


def rollback(name: bytes) -> bytes:
    return posted(b"Content-Length: 14", body=b'{"version": 1}', target=b"/tasks/" + name + b"/rollback")


def no_task(edge: Edge, name: bytes) -> None:
    """Reading and changing it is 404, making it 400; nothing is decoded, folded or redirected."""
    edge.refused(put(name), 400, "invalid_task_id", closes=False)
    nowhere = "not_found" if set(name) & set(b"/") else "task_not_found"
    edge.refused(request(b"/tasks/" + name), 404, nowhere, closes=False)
    edge.refused(rollback(name), 404, nowhere, closes=False)


DOTS = [
    b"..",
    b"%2e%2e",
    b".",
    b"a/../b",
    b"a%2fb",
    b"%2f",
    b"a%5cb",
    b"\\",
    b"a\\b",
    b"%2e%2e%2f%2e%2e%2fetc%2fpasswd",
]
OUT = [b"../../../../etc/passwd", b"..%2f..%2f..%2fetc%2fpasswd", b"/etc/passwd", b"%2fetc%2fpasswd", b"..\\..\\etc"]


@pytest.mark.parametrize("name", [*DOTS, *OUT])
def test_H11_a_path_as_a_task(edge: Edge, name: bytes) -> None:
    """Dots and slashes are no part of a name, however they are written."""
    no_task(edge, name)


@pytest.mark.parametrize("name", [b"%00", b"a%00", b"%0a", b"a%0d%0ab", b"%1b[31m", b"a%20b", b"%7f", b"%09"])
def test_H12_control_characters(edge: Edge, name: bytes) -> None:
    """Encoded they name nothing; as they are, they are no HTTP."""
    no_task(edge, name)
    byte = bytes.fromhex(re.findall(rb"%(..)", name)[0].decode())
    for method in (b"GET", b"PUT", b"POST"):
        edge.refused(request(b"/tasks/a" + byte + b"b", method=method), 400, "invalid_request", closes=True)


@pytest.mark.parametrize(
    "name", ["caf\u00e9", "cafe\u0301", "\uff0e\uff0e\uff0f", "\u0130", "\u0131", "a\u200bb", "\u202eabc", "\u0430dmin"]
)
def test_H14_beyond_ASCII(edge: Edge, name: str) -> None:
    """Composed or not, full-width dots, Turkish i, nothing to see, right to left, a Cyrillic a."""
    no_task(edge, quote(name).encode())
    edge.refused(request(b"/tasks/" + name.encode()), 400, "invalid_request", closes=True)


def test_H15_case(edge: Edge) -> None:
    """Two names are two tasks, also where a file system would think otherwise."""
    edge.refused(request(b"/tasks/KNOWN"), 404, "task_not_found", closes=False)
    edge.taken(put(b"Known"), 201)
    assert [edge.site.http.get(f"/tasks/{name}").json()["id"] for name in ("known", "Known")] == ["known", "Known"]


def test_H16_names_without_end(edge: Edge) -> None:
    """128 characters are a name, 129 none, and ten thousand no URL."""
    no_task(edge, b"a" * 129)
    for sent in (put(b"a" * 10_000), request(b"/tasks/" + b"a" * 10_000), rollback(b"a" * 10_000)):
        edge.refused(sent, 414, "url_too_long", closes=True)


def test_H18_paths_that_some_take_for_others(edge: Edge) -> None:
    """No parameter, query, doubled or trailing slash leads to a task, and nobody is sent anywhere."""
    for target in (b"/tasks/known;jsessionid=1", b"/tasks/known/", b"/tasks//known", b"//tasks/known", b"//evil"):
        code = "task_not_found" if b";" in target else "not_found"
        answer = edge.refused(request(target), 404, code, closes=False)
        assert "location" not in answer.headers
    edge.refused(request(b"/tasks/known?task=other"), 400, "unknown_field", closes=False)


def test_no_name_leaves_the_store(victim: Victim, tmp_path: Path) -> None:
    """H11, by the kernel's account: every file that requests for such names make the server open is the store's."""
    trace = tmp_path / "trace"
    command = [
        tool("strace"),
        "-f",
        "-y",
        "-o",
        str(trace),
        "-e",
        "signal=none",
        "-e",
        "trace=%file",
        "-p",
        str(victim.pid),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        assert "attached" in strace.stderr.readline()
        site = victim.url
        for name in (b"target", *DOTS, *OUT):
            for sent in (put(name), request(b"/tasks/" + name), rollback(name)):
                _say(site, sent)
        strace.send_signal(signal.SIGINT)
        strace.communicate()
    calls = re.sub(r"AT_FDCWD<[^>]*>", "", trace.read_text(errors="replace"))
    opened = [one or other for one, other in re.findall(r'"([^"]*)"|<(/[^>]*)>', calls)]
    assert [path for path in opened if path.startswith(str(victim.store))], "the trace sees nothing"
    ours = (str(victim.store), str(ROOT / "server"))
    assert not [path for path in opened if path.startswith("/") and not path.startswith(ours)]
    assert not [path for path in opened if ".." in path or "passwd" in path]


def _say(url: str, sent: bytes) -> None:
    with connect(url) as connection:
        connection.sendall(sent)
        assert status(read_answer(connection)) in {200, 201, 400, 404}
