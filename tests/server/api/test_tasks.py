"""The life of a task over HTTP: published, patched, listed, rolled back, deleted, downloaded."""

import base64
import hashlib
from pathlib import Path

import numpy as np
import pytest

from server.api.answers import Nearest, TaskList, TaskObject, VersionDetail, VersionList
from tests.server.site import Site, embeddings, peft_file
from tests.server.site import site as running


def test_a_new_version_is_201_with_all_its_headers(site: Site) -> None:
    """ETag, Location, the operation's id and the task object."""
    answer = site.http.put("/tasks/fresh", json={"template": "play {text}", "labels": ["a", "b"]})
    TaskObject.model_validate(answer.json())
    assert answer.status_code == 201
    assert answer.headers["etag"] == f'"{answer.json()["digest"]}"'
    assert answer.headers["location"] == "/tasks/fresh/versions/1"
    assert answer.headers["x-operation-id"]
    assert answer.json()["servable"] is True
    assert site.http.get("/tasks/fresh").json() == answer.json() | {"resident": True}


def test_the_same_bytes_again_are_200_and_the_same_version(site: Site) -> None:
    """A retried upload makes nothing new; another task shares the file."""
    file = embeddings(site.base, "{text}", 3)
    first = site.http.put("/tasks/again", content=file.data)
    second = site.http.put("/tasks/again", content=file.data, headers={"Content-Type": "application/octet-stream"})
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json()["version"] == 1
    other = site.http.put("/tasks/again-2", content=file.data)
    assert other.status_code == 201
    assert other.json()["digest"] == first.json()["digest"] == file.digest


def test_a_stored_file_comes_back_byte_for_byte(site: Site) -> None:
    """With its digest in two headers."""
    file = embeddings(site.base, "{text}", 3, description="mine")
    site.http.put("/tasks/pulled", content=file.data)
    answer = site.http.get("/tasks/pulled/versions/1/prompt")
    assert answer.content == file.data
    assert answer.headers["etag"] == f'"{file.digest}"'
    digest = base64.b64encode(hashlib.sha256(file.data).digest()).decode()
    assert answer.headers["content-digest"] == f"sha-256=:{digest}:"


def test_a_bare_peft_file_becomes_a_task(site: Site) -> None:
    """As PEFT wrote it, with the query's metadata; the same upload has the same digest; not verified."""
    data = peft_file(np.random.default_rng(0).standard_normal((4, 64)))
    query = {"template": "play {text}", "labels": "jazz,rock", "description": "from PEFT"}
    answer = site.http.put("/tasks/peft", content=data, params=query)
    task = answer.json()
    assert answer.status_code == 201, answer.text
    assert (task["kind"], task["length"], task["verified"], task["base"]) == ("embeddings", 4, False, None)
    assert (task["labels"], task["template"], task["description"]) == (["jazz", "rock"], "play {text}", "from PEFT")
    assert site.http.put("/tasks/peft", content=data, params=query).status_code == 200
    assert site.generate("it", "peft", max_new_tokens=2)["usage"]["soft_tokens"] == 4


def test_the_query_is_for_bare_files_only(site: Site) -> None:
    """A file with metadata of its own, and a JSON task, refuse others; unknown parameters are refused."""
    file = embeddings(site.base, "{text}", 3)
    assert site.http.put("/tasks/query", content=file.data, params={"template": "x"}).status_code == 400
    assert site.http.put("/tasks/query", json={"template": "x"}, params={"template": "x"}).status_code == 400
    data = peft_file(np.zeros((2, 64)))
    assert site.http.put("/tasks/query", content=data, params={"tempalte": "x"}).status_code == 400


def test_preconditions_hold(site: Site) -> None:
    """Create only, replace only that; a lost one is 412 and shows what is current."""
    first = site.publish("guarded", "one {text}")
    taken = site.http.put("/tasks/guarded", json={"template": "x"}, headers={"If-None-Match": "*"})
    assert taken.status_code == 412
    stale = site.http.put("/tasks/guarded", json={"template": "x"}, headers={"If-Match": f'"{"0" * 64}"'})
    assert stale.status_code == 412
    assert first["digest"] in stale.json()["error"]["message"]
    good = site.http.put("/tasks/guarded", json={"template": "y"}, headers={"If-Match": f'"{first["digest"]}"'})
    assert (good.status_code, good.json()["version"]) == (201, 2)
    for headers in ({"If-Match": "no quotes"}, {"If-Match": "*"}, {"If-None-Match": '"abc"'}):
        assert site.http.put("/tasks/guarded", json={"template": "z"}, headers=headers).status_code == 400


def test_a_body_is_checked_against_its_digest(site: Site) -> None:
    """Content-Digest: another body is 422, nonsense 400, unknown algorithms are nothing."""
    file = embeddings(site.base, "{text}", 2)

    def put(value: str) -> int:
        return site.http.put("/tasks/digested", content=file.data, headers={"Content-Digest": value}).status_code

    right = base64.b64encode(hashlib.sha256(file.data).digest()).decode()
    wrong = base64.b64encode(hashlib.sha256(b"").digest()).decode()
    assert put(f"sha-256=:{wrong}:") == 422
    assert put("sha-256=abc") == 400
    assert put("sha-256=:***:") == 400
    assert put(f"unixsum=:AAAA:, sha-256=:{right}:") == 201


def test_a_patch_keeps_the_tensors(site: Site) -> None:
    """RFC 7396: what is null goes back to its default, what is absent stays."""
    file = embeddings(site.base, "play {text}", 3, labels=("a",), defaults={"top_k": 3, "temperature": 0.5})
    site.http.put("/tasks/patched", content=file.data)
    patch = {"labels": None, "defaults": {"top_k": None}, "description": "better"}
    answer = site.http.patch("/tasks/patched", json=patch)
    task = answer.json()
    assert (answer.status_code, task["version"]) == (201, 2)
    assert (task["labels"], task["defaults"], task["description"]) == (None, {"temperature": 0.5}, "better")
    assert (task["template"], task["length"], task["verified"]) == ("play {text}", 3, True)
    same = site.http.patch("/tasks/patched", json={}, headers={"Content-Type": "application/merge-patch+json"})
    assert same.status_code == 200
    stale = site.http.patch("/tasks/patched", json={"description": "x"}, headers={"If-Match": f'"{file.digest}"'})
    assert stale.status_code == 412


@pytest.mark.parametrize(
    ("patch", "status"),
    [({"template": "{"}, 422), ({"template": None}, 400), ({"kind": "text"}, 400), ({"labels": "a"}, 400), ([], 400)],
)
def test_a_patch_that_cannot_be_is_refused(site: Site, patch: object, status: int) -> None:
    """A template that is none is 422, a body of another shape 400; the version stays."""
    before = site.publish("unpatched", "play {text}")
    assert site.http.patch("/tasks/unpatched", json=patch).status_code == status
    assert site.http.get("/tasks/unpatched").json()["version"] == before["version"]


def test_roll_back_makes_a_new_version_of_an_old_one(site: Site) -> None:
    """201 with the old digest; to the current one 200; unknown 404; a tombstone 409."""
    one = site.publish("rolled", "one {text}")
    site.publish("rolled", "two {text}")
    back = site.http.post("/tasks/rolled/rollback", json={"version": 1})
    assert (back.status_code, back.json()["version"], back.json()["digest"]) == (201, 3, one["digest"])
    assert back.headers["location"] == "/tasks/rolled/versions/3"
    assert site.http.post("/tasks/rolled/rollback", json={"version": 3}).status_code == 200
    assert site.http.post("/tasks/rolled/rollback", json={"version": 9}).status_code == 404
    site.http.delete("/tasks/rolled")
    tombstone = site.http.post("/tasks/rolled/rollback", json={"version": 4})
    assert (tombstone.status_code, tombstone.headers["x-should-retry"]) == (409, "false")
    assert site.http.post("/tasks/rolled/rollback", json={"version": 2}).json()["version"] == 5
    assert site.generate("it", "rolled", max_new_tokens=1)["version"] == 5


def test_a_deleted_task_is_gone_but_for_its_history(site: Site) -> None:
    """204, then 404 everywhere but /versions and roll back; a second delete is 404."""
    site.publish("gone", "play {text}", soft=2)
    answer = site.http.delete("/tasks/gone")
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["x-operation-id"]
    for method, path in (
        ("GET", "/tasks/gone"),
        ("GET", "/tasks/gone/nearest"),
        ("PATCH", "/tasks/gone"),
        ("DELETE", "/tasks/gone"),
    ):
        assert site.http.request(method, path, json={} if method == "PATCH" else None).status_code == 404
    for pinned in ({}, {"version": 1}):
        asked = {"task": "gone", "inputs": "x", **pinned}
        assert site.http.post("/generate", json=asked).json()["error"]["code"] == "task_not_found"
    history = site.http.get("/tasks/gone/versions").json()["data"]
    assert [(version["version"], version["event"]) for version in history] == [(2, "delete"), (1, "publish")]
    assert site.http.get("/tasks/gone/versions/1/prompt").status_code == 200
    assert site.http.get("/tasks/gone/versions/2/prompt").status_code == 409
    assert "gone" not in [task["id"] for task in site.http.get("/tasks?limit=1000").json()["data"]]


def test_the_history_tells_where_each_version_came_from(site: Site) -> None:
    """Newest first, with its source and what stood before."""
    site.publish("told", "one {text}")
    site.publish("told", "two {text}")
    site.http.post("/tasks/told/rollback", json={"version": 1})
    answer = site.http.get("/tasks/told/versions").json()
    VersionList.model_validate(answer)
    assert [(v["version"], v["event"], v["previous"], v["source_version"]) for v in answer["data"]] == [
        (3, "rollback", 2, 1),
        (2, "publish", 1, None),
        (1, "publish", None, None),
    ]
    one = site.http.get("/tasks/told/versions/1").json()
    VersionDetail.model_validate(one)
    assert one["task"]["template"] == "one {text}"
    for version in ("0", "4", "x", "01", "1e0", "-1", "999999999999"):
        assert site.http.get(f"/tasks/told/versions/{version}").status_code == 404


def test_tasks_are_listed_page_by_page(base_folder: Path) -> None:
    """By the ASCII order of their ids, either way, by kind and prefix; an empty page has null ids."""
    with running(base_folder, "memory://") as site:
        for name in ("b", "B", "a-1", "a-2", "_".join("cc")):
            site.publish(name, "{text}", soft=2 if name == "b" else 0)
        first = site.http.get("/tasks?limit=2").json()
        TaskList.model_validate(first)
        assert ([task["id"] for task in first["data"]], first["has_more"]) == (["B", "a-1"], True)
        rest = site.http.get(f"/tasks?after={first['last_id']}").json()
        assert ([task["id"] for task in rest["data"]], rest["has_more"]) == (["a-2", "b", "c_c"], False)
        down = site.http.get("/tasks?order=desc&limit=1").json()
        assert (down["first_id"], down["last_id"]) == ("c_c", "c_c")
        assert [task["id"] for task in site.http.get("/tasks?kind=embeddings").json()["data"]] == ["b"]
        assert [task["id"] for task in site.http.get("/tasks?search=a-").json()["data"]] == ["a-1", "a-2"]
        empty = site.http.get("/tasks?search=zz").json()
        assert (empty["data"], empty["first_id"], empty["last_id"]) == ([], None, None)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "order=up", "kind=none", "after=..", "page=2"])
def test_queries_out_of_bounds_are_refused(site: Site, query: str) -> None:
    """Unknown parameters too, and without repeating them."""
    answer = site.http.get(f"/tasks?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[2] not in answer.json()["error"]["message"].split()


def test_pseudo_tokens_are_named_by_their_nearest_tokens(site: Site) -> None:
    """A row that is a token's embedding is nearest to that token; text tasks have no rows."""
    table = site.desk.room.running.engine.base.embedding.weight.float().numpy()
    data = peft_file(table[[100, 200]])
    site.http.put("/tasks/near", content=data)
    answer = site.http.get("/tasks/near/nearest?k=2").json()
    Nearest.model_validate(answer)
    assert [row["tokens"][0]["id"] for row in answer["data"]] == [100, 200]
    assert [row["tokens"][0]["cosine"] for row in answer["data"]] == pytest.approx([1, 1], abs=1e-3)
    site.publish("near-text", "{text}")
    assert site.http.get("/tasks/near-text/nearest").status_code == 400


def test_an_operation_is_done_once(site: Site) -> None:
    """The same Idempotency-Key again is the same operation: its version, its 204; another change is 422."""
    headers = {"Idempotency-Key": "once-1"}
    first = site.http.put("/tasks/once", json={"template": "one {text}"}, headers=headers)
    site.publish("once", "two {text}")
    again = site.http.put("/tasks/once", json={"template": "one {text}"}, headers=headers)
    assert first.json()["version"] == again.json()["version"] == 1
    assert again.headers["x-operation-id"] == "once-1"
    assert site.generate("it", "once", max_new_tokens=1)["version"] == 2
    other = site.http.put("/tasks/once", json={"template": "three {text}"}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_mismatch")
    patched = {"Idempotency-Key": "once-3"}
    for change, status in (({"description": "a"}, 201), ({"description": "a"}, 201), ({"description": "b"}, 422)):
        assert site.http.patch("/tasks/once", json=change, headers=patched).status_code == status
    rolled = [
        site.http.post("/tasks/once/rollback", json={"version": 1}, headers={"Idempotency-Key": "once-4"}).json()
        for _ in range(2)
    ]
    assert rolled[0] == rolled[1]
    for _ in range(2):
        assert site.http.delete("/tasks/once", headers={"Idempotency-Key": "once-2"}).status_code == 204
    assert site.http.patch("/tasks/once", json={"description": "a"}, headers=patched).status_code == 201
    bad = site.http.delete("/tasks/once", headers={"Idempotency-Key": "x" * 300})
    assert bad.status_code == 400


def test_a_task_may_be_uploaded_again_after_its_deletion(site: Site) -> None:
    """The next number, never the old content."""
    site.publish("back", "one {text}")
    site.http.delete("/tasks/back")
    assert site.publish("back", "two {text}")["version"] == 3
    assert site.http.put("/tasks/back-2", json={"template": "x"}, headers={"If-None-Match": "*"}).status_code == 201
