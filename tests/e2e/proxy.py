"""docker/nginx.conf in a real nginx in front of a server: paths, ports and the address replaced, nothing else."""

import contextlib
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import trustme

from tests.checkout import ROOT
from tests.server.certificates import files
from tests.server.site import until
from tests.tools import tool

NAME = "models.example"
FRAME = """
{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/softprompt.conf;
}}
"""
"""What Debian's own nginx.conf is to a file in conf.d."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running nginx: `trust` believes its certificate, `log` is its access log."""

    url: str
    trust: ssl.SSLContext
    log: Path


class Named(httpx.HTTPTransport):
    """Asks for the public name, wherever the connection goes."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, "sni_hostname": NAME}
        return super().handle_request(request)


class AsyncNamed(httpx.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, "sni_hostname": NAME}
        return await super().handle_async_request(request)


def settled(folder: Path, port: int, upstream: str, certificate: dict[str, str]) -> str:
    """The file as an operator would have edited it. Every replacement is of something that is there."""
    text = (ROOT / "docker" / "nginx.conf").read_text(encoding="utf-8")
    for old, new in {
        "listen 443": f"listen 127.0.0.1:{port}",
        "server 127.0.0.1:8000": f"server {upstream}",
        "/etc/nginx/tls/fullchain.pem": certificate["tls_cert"],
        "/etc/nginx/tls/privkey.pem": certificate["tls_key"],
        "/var/log/nginx/softprompt.log": str(folder / "access.log"),
    }.items():
        assert old in text
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def proxied(url: str, folder: Path) -> Iterator[Proxy]:
    """nginx in front of the server at `url`."""
    nginx, ca = tool("nginx"), trustme.CA()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = settled(folder, port, re.sub(r"^http://", "", url), files(folder, ca))
    (folder / "softprompt.conf").write_text(text, encoding="utf-8")
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(FRAME.format(folder=folder, user=user), encoding="utf-8")
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(trust)
    with subprocess.Popen([nginx, "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf"]) as running:
        try:
            until(lambda: running.poll() is not None or _answers(port), "nginx listens")
            assert running.poll() is None
            yield Proxy(f"https://127.0.0.1:{port}", trust, folder / "access.log")
        finally:
            running.terminate()
            running.wait(30)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False
