"""One model repository on a loopback port, as the Hub's own client asks for it; weights redirect, as the Hub's do."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NAME = "somebody/small-base"
COMMIT = hashlib.sha1(NAME.encode(), usedforsecurity=False).hexdigest()


class Hub(ThreadingHTTPServer):
    """Serves the files of `folder` as `NAME` at `COMMIT`. `fetched`: names of the files whose bytes were asked for.

    With `cut` the connection ends in the middle of every body.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.cut = False
        self.fetched: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        """Silence on stderr."""

    def _answer(self, *, body: bool) -> None:
        sizes = {file.name: file.stat().st_size for file in sorted(self.server.folder.iterdir())}
        path = self.path.split("?")[0]
        *start, name = path.split("/")
        if path.startswith(f"/api/models/{NAME}/revision/"):
            self._json({"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": one} for one in sizes]})
        elif path == f"/api/models/{NAME}/tree/{COMMIT}":
            self._json([{"type": "file", "path": one, "size": size, "oid": one} for one, size in sizes.items()])
        elif "/".join(start).startswith(f"/{NAME}/resolve/") and name in sizes:
            self._resolve(name, body=body)
        elif path.startswith("/store/") and name in sizes:
            self.server.fetched.append(name)
            self._send(200, (self.server.folder / name).read_bytes(), {}, body=body)
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)

    def _json(self, found: object) -> None:
        self._send(200, json.dumps(found).encode(), {"Content-Type": "application/json"}, body=True)

    def _resolve(self, name: str, *, body: bool) -> None:
        data = (self.server.folder / name).read_bytes()
        tag = f'"{hashlib.sha256(data).hexdigest()}"'
        headers = {"X-Repo-Commit": COMMIT, "ETag": tag}
        if name.endswith(".safetensors"):  # to another host, whose headers the client does not ask for
            linked = {
                "X-Linked-Etag": tag,
                "X-Linked-Size": str(len(data)),
                "Location": f"http://localhost:{self.server.server_port}/store/{name}",
            }
            self._send(302, b"", headers | linked, body=body)
        else:
            if body:
                self.server.fetched.append(name)
            self._send(200, data, headers, body=body)

    def _send(self, status: int, data: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data[: len(data) // 2] if self.server.cut else data)


@contextmanager
def hub(folder: Path) -> Iterator[Hub]:
    with Hub(folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
