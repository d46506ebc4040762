"""Files that go out: as their clients take them, whole, and never as a whole in memory."""

from contextlib import ExitStack

from benchmarks.serving import resident
from server.heap import give_back
from tests.server.api.connections import get, not_reading
from tests.server.site import Site, until

MB = 2**20
CLIENTS, SIZE = 8, 24 * MB


def test_files_that_nobody_reads_take_no_memory(learning: Site) -> None:
    """Eight clients that take none of a file cost less than it has bytes; who takes it has every one."""
    data = b'{"text": "a", "label": "b"}\n' * (SIZE // 28)
    form = {"file": ("rows.jsonl", data)}
    made = learning.http.post("/v1/files", data={"purpose": "fine-tune"}, files=form).raise_for_status().json()
    path = f"/v1/files/{made['id']}/content"
    found = learning.http.get(path)
    assert (found.content, found.headers["content-length"]) == (data, str(len(data)))
    del found
    give_back()
    before = resident()
    with ExitStack() as stack:
        clients = [stack.enter_context(not_reading(learning, get(path))) for _ in range(CLIENTS)]
        until(lambda: all(client.recv(1) for client in clients), "all are being answered")
        assert resident() - before < SIZE
    learning.http.delete(f"/v1/files/{made['id']}").raise_for_status()
    assert learning.http.get(path).status_code == 404
