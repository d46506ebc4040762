"""What the page's own routes answer, asked without a browser."""

import hashlib
import re
from pathlib import Path

import pytest

from server.page import assets
from server.page.routes import POLICY
from tests.checkout import ROOT
from tests.server.site import Site, raw, status
from tests.server.site import site as running

STATIC = ROOT / "server" / "page" / "static"
READER, OWNER = "a-key-that-may-read", "a-key-that-may-all"
FRAGMENTS = ("/page/tasks", "/page/tasks/known", "/page/tasks/known/nearest", "/page/pane?task=known")
HOSTILE = "<script>alert(1)</script>\"'{{7919*7927}}"


def test_the_shell_holds_no_data_and_needs_no_key(base_folder: Path, tmp_path: Path) -> None:
    """Shell and files are open on a closed server, fragments are not, and jobs are the admin's."""
    with running(base_folder, tmp_path, api_key=READER, admin_key=OWNER) as closed:
        owner, reader = ({"Authorization": f"Bearer {key}"} for key in (OWNER, READER))
        template = {"template": "a secret {input}"}
        assert closed.http.put("/tasks/known", json=template, headers=owner).status_code == 201
        shell = closed.http.get("/")
        assert shell.status_code == 200
        assert "known" not in shell.text
        assert "secret" not in shell.text
        assert closed.http.get("/static/page.js").status_code == 200
        for path in FRAGMENTS:
            assert closed.http.get(path).status_code == 401, path
            assert closed.http.get(path, headers=reader).status_code == 200, path
        assert closed.http.get("/page/jobs", headers=reader).status_code == 403
        assert closed.http.get("/page/jobs/any", headers=reader).status_code == 403


def test_every_answer_carries_the_policy(site: Site) -> None:
    """Nothing inline, nothing from elsewhere, no frame around it; data are not kept by caches."""
    site.publish("known", soft=2)
    for path in ("/", "/static/page.js", *FRAGMENTS):
        answer = site.http.get(path)
        assert answer.status_code == 200, path
        assert {name: answer.headers[name] for name in POLICY} == POLICY, path
        assert (answer.headers["x-content-type-options"], answer.headers["referrer-policy"]) == (
            "nosniff",
            "no-referrer",
        )
    assert site.http.get("/page/tasks").headers["cache-control"] == "no-store"
    inline = re.compile(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=", re.IGNORECASE)
    templates = (ROOT / "server" / "page" / "templates").glob("*.jinja")
    assert not [path.name for path in templates if inline.search(path.read_text(encoding="utf-8"))]


def test_what_a_task_says_is_text_and_never_markup(site: Site) -> None:
    """Template, description, labels and defaults of a hostile task come out escaped in every fragment."""
    site.publish("hostile", "{input}<script>alert(2)</script>", labels=[HOSTILE, "b"], description=HOSTILE)
    for path in ("/page/tasks?search=hostile", "/page/tasks/hostile", "/page/pane?task=hostile"):
        text = site.http.get(path).text
        assert "<script" not in text, path
    assert str(7919 * 7927) not in site.http.get("/page/tasks/hostile").text
    assert "&lt;script&gt;alert(2)" in site.http.get("/page/tasks/hostile").text


@pytest.mark.parametrize(
    "path",
    [
        "/static/", "/static/../routes.py", "/static/..%2froutes.py", "/static//etc/passwd", "/static/vendor",
        "/static/page.js/", "/static/vendor/../page.js",
    ],
)  # fmt: skip
def test_a_name_that_is_no_file_is_not_found(site: Site, path: str) -> None:
    """Files were read at start; a name is looked up and never made a path."""
    assert status(raw(site.url, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())) == 404


def test_a_file_is_sent_once_as_long_as_it_is_the_same(site: Site) -> None:
    """Its digest is its ETag; who has it is told so."""
    first = site.http.get("/static/page.css")
    assert first.headers["content-type"].startswith("text/css")
    again = site.http.get("/static/page.css", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_table_has_parts(site: Site) -> None:
    """More than fifty tasks come with a button for the next, which begins where the first ended."""
    for number in range(51):
        site.publish(f"many-{number:02}")
    first = site.http.get("/page/tasks", params={"search": "many-", "kind": ""}).text
    assert first.count("<tr>") == 51
    following = re.search(r'hx-get="([^"]+)"', first)
    assert following
    rest = site.http.get(following[1].replace("&amp;", "&")).text
    assert "many-50" in rest
    assert "many-49" not in rest


def test_a_pane_tells_fields_and_versions_of_the_one_asked_for(site: Site) -> None:
    """Another version may have another template; a tombstone cannot be chosen."""
    site.publish("changed", "{old}")
    site.publish("changed", "{new} {other}")
    assert "[&#34;new&#34;, &#34;other&#34;]" in site.http.get("/page/pane?task=changed").text
    assert "[&#34;old&#34;]" in site.http.get("/page/pane?task=changed&version=1").text
    assert site.http.get("/page/pane?task=changed&version=9").status_code == 404
    site.http.delete("/tasks/changed")
    site.http.post("/tasks/changed/rollback", json={"version": 1})
    versions = re.findall(r"<option[^>]*>(\d+)<", site.http.get("/page/pane?task=changed").text)
    assert versions == ["4", "2", "1"]


def test_a_large_soft_prompt_is_drawn_in_part(site: Site) -> None:
    """Two hundred rows and ten columns at most: the picture says how many there are."""
    site.publish("large", soft=210)
    drawn = site.http.get("/page/tasks/large/nearest?k=2").text
    assert drawn.count("<rect") == 400
    assert "The first 200 of 210" in drawn
    assert site.http.get("/page/tasks/large/nearest?k=11").status_code == 400
    assert len(site.http.get("/tasks/large/nearest?k=11").json()["data"]) == 210


def test_vendored_files_are_as_their_list_says() -> None:
    """Each has its version, source, licence and digest in VENDORED.md, and none is there without."""
    listed = re.findall(
        r"^\| `([\w.-]+)` \|.*`([0-9a-f]{64})` \|$",
        (STATIC / "vendor" / "VENDORED.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (STATIC / "vendor").iterdir()
        if path.suffix in {".js", ".css"}
    }
    assert dict(listed) == found


def test_every_file_of_the_page_is_packaged() -> None:
    """What is loaded is what lies in the folder, with a type that browsers take."""
    loaded = assets.load()
    assert set(loaded) == {str(path.relative_to(STATIC)) for path in STATIC.rglob("*") if path.is_file()}
    assert {asset.media_type for name, asset in loaded.items() if name.endswith(".js")} == {"text/javascript"}
