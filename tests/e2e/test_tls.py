"""https from a real process: who is believed, what is refused, and the command line with a private authority."""

import json
import select
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from typer.testing import CliRunner

from benchmarks.serving import resident
from cli.main import app
from tests.e2e.process import Process, secured
from tests.server.certificates import encrypted, files
from tests.server.site import connect, until
from tests.test_docker import health
from tests.tools import tool

CA = trustme.CA()
LARGE = "/static/vendor/swagger-ui-bundle.js"
SILENT, EACH = 200, 150 * 2**10
"""Connections, bytes."""
LONG = {"inputs": "play", "parameters": {"max_new_tokens": 60, "ignore_eos": True}}


def options(given: dict[str, str]) -> list[str]:
    return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]


def trusting(ca: trustme.CA | None = CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is not None:
        ca.configure_trust(context)
    return context


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("certificates")
    CA.cert_pem.write_to_path(str(found / "ca.pem"))
    return found


@pytest.fixture(scope="module")
def server(base_folder: Path, folder: Path) -> Iterator[tuple[Process, httpx.Client]]:
    given = encrypted(files(folder, CA), folder)
    started = ("--model", str(base_folder), "--store", "memory://", *options(given))
    hosts = "127.0.0.1,localhost,models.example"
    with secured(trusting(), *started, SOFTPROMPT_ALLOWED_HOSTS=hosts) as found:
        yield found


def test_https_is_what_the_process_says(server: tuple[Process, httpx.Client]) -> None:
    """In its log and on the screen, with the certificate's end; no word of the key's password."""
    process, client = server
    assert process.url.startswith("https://127.0.0.1:")
    assert "https://127.0.0.1:0" in "".join(process.other)
    assert [entry["until"] for entry in process.log if entry["event"] == "certificate"]
    assert "correct horse" not in "".join(process.other) + str(process.log)
    assert client.get("/livez").json() == {"status": "ok"}


def test_browsers_are_told_to_keep_to_it(server: tuple[Process, httpx.Client]) -> None:
    """Under the server's public name; this machine's names are everybody's."""
    _, client = server
    assert "strict-transport-security" in client.get("/livez", headers={"Host": "models.example"}).headers
    assert "strict-transport-security" not in client.get("/livez").headers
    unread = client.get("/livez", headers={"X": "a" * 40_000})
    assert unread.status_code == 431
    assert "strict-transport-security" not in unread.headers, "nobody knows by which name it came"


def test_browsers_are_told_so_too_by_who_has_no_room(base_folder: Path, folder: Path) -> None:
    """Whoever is refused before a route has seen the request, whose answers have a date."""
    given = ("--model", str(base_folder), "--store", "memory://", *options(files(folder, CA)))
    room = {"SOFTPROMPT_MAX_BATCH": "1", "SOFTPROMPT_MAX_WAITING": "1"}
    body = {"inputs": "play", "parameters": {"max_new_tokens": 240, "ignore_eos": True}}

    def ask(host: str) -> httpx.Response:
        return client.post("/generate", json=body, headers={"Host": host}, timeout=60)

    with (
        secured(trusting(), *given, SOFTPROMPT_ALLOWED_HOSTS="127.0.0.1,models.example", **room) as (_, client),
        ThreadPoolExecutor(16) as pool,
    ):
        for host, wanted in (("models.example", True), ("127.0.0.1", False)):
            answers = [one for one in pool.map(ask, [host] * 16) if "date" not in one.headers]
            assert answers
            assert {one.status_code for one in answers} == {503}
            assert {"strict-transport-security" in one.headers for one in answers} == {wanted}


def test_answers_and_streams_are_what_they_are_without(server: tuple[Process, httpx.Client]) -> None:
    """A task, an answer, its stream, an error, on one connection; HTTP/1.1."""
    _, client = server
    assert client.put("/tasks/t", json={"template": "{text}"}).status_code == 201
    body = {"task": "t", **LONG}
    answer = client.post("/generate", json=body).json()
    with client.stream("POST", "/generate_stream", json=body) as stream:
        events = [json.loads(line.removeprefix("data: ")) for line in stream.iter_lines() if line]
        assert stream.http_version == "HTTP/1.1"
    assert len(events) == 60
    assert events[-1]["generated_text"] == answer["generated_text"]
    assert client.get("/tasks/absent").status_code == 404


def test_who_leaves_is_noticed(server: tuple[Process, httpx.Client]) -> None:
    """A connection that ends in the middle of a stream ends its generation."""
    _, client = server
    body = {"inputs": "play", "parameters": {"max_new_tokens": 240, "ignore_eos": True}}
    with client.stream("POST", "/generate_stream", json=body) as stream:
        next(stream.iter_lines())
    while client.get("/info").json()["engine"]["running"]:
        pass


@pytest.fixture(scope="module")
def hasty(base_folder: Path, folder: Path) -> Iterator[tuple[Process, httpx.Client]]:
    """A second for a part of an answer."""
    given = ("--model", str(base_folder), "--store", "memory://", *options(files(folder, CA)))
    with secured(trusting(), *given, SOFTPROMPT_WRITE_SECONDS="1") as found:
        yield found


@contextmanager
def asking(url: str, path: str, buffer: int) -> Iterator[ssl.SSLSocket]:
    """A client whose system takes little ahead of it, with its last request."""
    address = httpx.URL(url)
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        plain.settimeout(60)
        plain.connect((address.host, address.port))
        with trusting().wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            yield connection


def test_who_reads_slowly_but_reads_has_it_all(hasty: tuple[Process, httpx.Client]) -> None:
    """Longer than `write_seconds` for the whole: what TLS has encrypted is not yet taken."""
    process, client = hasty
    whole = len(client.get(LARGE).content)
    with asking(process.url, LARGE, 1) as connection:
        received, began = b"", time.monotonic()
        while piece := connection.recv(65536):
            received += piece
            select.select([], [], [], max(0.0, began + len(received) / whole * 4 - time.monotonic()))
    assert time.monotonic() - began > 3
    assert len(received.partition(b"\r\n\r\n")[2]) == whole


def test_who_takes_little_pieces_is_waited_for(hasty: tuple[Process, httpx.Client]) -> None:
    """Ten times as fast as it must, with a system that holds little: the kernel's own timeout would cut it off."""
    process, _ = hasty
    with asking(process.url, LARGE, 8192) as connection:
        began, got = time.monotonic(), 0
        while time.monotonic() < began + 5:
            piece = connection.recv(4096)
            assert piece, "it was cut off"
            got += len(piece)
            select.select([], [], [], 0.1)
    assert got > 10 * 4096


def test_silent_connections_take_little_memory_and_give_it_back(server: tuple[Process, httpx.Client]) -> None:
    """asyncio would hold a quarter of a megabyte for each, and once they are gone until the collector comes by."""
    process, client = server
    address = httpx.URL(process.url)
    before, files = resident(process.pid), descriptors(process)
    trust = trusting()
    for _ in range(2):
        with ExitStack() as stack:
            for _ in range(SILENT):
                plain = stack.enter_context(socket.create_connection((address.host, address.port)))
                stack.enter_context(trust.wrap_socket(plain, server_hostname="localhost"))
        until(lambda: descriptors(process) <= files, "they are gone")
        assert resident(process.pid) - before < SILENT * EACH
    assert client.get("/livez").status_code == 200


@pytest.mark.parametrize(("path", "reads"), [(LARGE, False), ("/livez", True)], ids=["the answer", "the end"])
def test_who_does_not_take_it_is_cut_off(hasty: tuple[Process, httpx.Client], path: str, reads: bool) -> None:
    """The answer, or the leave that TLS takes, which nobody waits for either."""
    process, _ = hasty
    before = descriptors(process)
    with asking(process.url, path, 1) as connection:
        if reads:
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        until(lambda: descriptors(process) > before, "it is there")
        until(lambda: descriptors(process) <= before, "it is cut off", 20)


def descriptors(process: Process) -> int:
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


def test_who_does_not_know_the_authority_refuses(server: tuple[Process, httpx.Client]) -> None:
    """The certificate is not taken on trust; a name that it does not hold is none of its."""
    process, _ = server
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(process.url, verify=trusting(None), trust_env=False)
    believing = httpx.Client(verify=trusting(), trust_env=False)
    with believing, pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        believing.get(process.url, extensions={"sni_hostname": "other.example"})


@pytest.mark.parametrize(("version", "taken"), [("tls1", False), ("tls1_1", False), ("tls1_2", True), ("tls1_3", True)])
def test_old_protocols_are_refused(
    server: tuple[Process, httpx.Client], folder: Path, version: str, taken: bool
) -> None:
    """TLS 1.2 is the least, however willing the client."""
    where = server[0].url.removeprefix("https://")
    command = [
        tool("openssl"),
        "s_client",
        "-connect",
        where,
        f"-{version}",
        "-cipher",
        "ALL:@SECLEVEL=0",
        "-alpn",
        "h2,http/1.1",
    ]
    said = subprocess.run(
        [*command, "-CAfile", folder / "ca.pem"], input="", capture_output=True, text=True, check=False, timeout=60
    )
    told = said.stdout + said.stderr
    if taken:
        assert "Verify return code: 0 (ok)" in told
        assert "ALPN protocol: http/1.1" in told
    else:
        assert "no peer certificate available" in told
        assert "Cipher is (NONE)" in told


def test_plain_http_is_not_answered(server: tuple[Process, httpx.Client]) -> None:
    """What is no TLS ends the connection, and nothing else."""
    process, client = server
    with connect(process.url) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert not connection.recv(4096).startswith(b"HTTP/")
    assert client.get("/livez").status_code == 200


def test_the_image_asks_for_its_health_over_https(server: tuple[Process, httpx.Client], folder: Path) -> None:
    """The Dockerfile's own command, which knows this process and asks for no name."""
    port = str(httpx.URL(server[0].url).port)
    _, *arguments = health()
    for certificate, code in ((str(folder / "own.pem"), 0), ("", 1)):
        environment = {"SOFTPROMPT_PORT": port, "SOFTPROMPT_TLS_CERT": certificate}
        done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=False)
        assert done.returncode == code, done.stderr


def test_the_commands_believe_a_private_authority(server: tuple[Process, httpx.Client], folder: Path) -> None:
    """With SSL_CERT_FILE, as other programs; without it they say that the certificate is not believed."""
    process, _ = server
    runner = CliRunner(env={"NO_PROXY": "127.0.0.1", "COLUMNS": "200"})
    ask = ["tasks", "--json", "--url", process.url]
    told = runner.invoke(app, ask, env={"SSL_CERT_FILE": str(folder / "ca.pem")})
    assert (told.exit_code, '"id": "t"' in told.output) == (0, True), told.output
    refused = runner.invoke(app, ask, env={"SSL_CERT_FILE": None})
    assert (refused.exit_code, "CERTIFICATE_VERIFY_FAILED" in refused.output) == (1, True), refused.output


def test_clients_must_show_a_certificate_where_that_is_asked(base_folder: Path, folder: Path, tmp_path: Path) -> None:
    """Of the authority that is named; one of another authority is no better than none."""
    mine, strange = trustme.CA(), trustme.CA()
    mine.cert_pem.write_to_path(str(tmp_path / "mine.pem"))
    given = {**files(tmp_path, CA), "tls_client_ca": str(tmp_path / "mine.pem")}
    known, foreign = trusting(), trusting()
    mine.issue_cert("client@models.example").configure_cert(known)
    strange.issue_cert("client@models.example").configure_cert(foreign)
    started = ("--model", str(base_folder), "--store", "memory://", *options(given))
    with secured(known, *started) as (process, client):
        assert client.get("/info").status_code == 200
        for context in (trusting(), foreign):
            with pytest.raises(httpx.TransportError):  # in TLS 1.3 the client hears of it after its own handshake
                httpx.get(f"{process.url}/info", verify=context, trust_env=False)
        assert client.get("/livez").status_code == 200


def test_a_server_without_its_certificate_does_not_start(base_folder: Path, folder: Path) -> None:
    """Exit code 2 and one line, before the base is loaded."""
    given: dict[str, Any] = {**files(folder, CA), "tls_key": files(folder, CA, "other")["tls_key"]}
    process = Process("--model", str(base_folder), *options(given))
    assert process.wait() == 2
    (line,) = process.other
    assert "other.key is not the key of the certificate in" in line
