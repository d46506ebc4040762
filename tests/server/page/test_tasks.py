"""What somebody sees of tasks in a real browser, and does with them."""

from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.models import save
from tests.server.page.looking import watched
from tests.server.site import Site, embeddings
from tests.server.site import site as running

OPEN_ALL = """async tasks => {
  for (const task of tasks) {
    const heard = new Promise(done => addEventListener('hashchange', done, { once: true }));
    location.hash = `#tasks/${task}`;
    await heard;
  }
}"""


def test_the_table_shows_what_each_task_is(page: Page, learning: Site) -> None:
    """Kind, length, size, version, metrics and description stand in the table, and it narrows as one types."""
    learning.publish("soft", soft=7, metrics={"accuracy": 0.875}, description="seven rows")
    learning.publish("words", "Say {input}")
    page.goto("/")
    row = page.locator("#tasks-table tr", has_text="soft")
    for told in ("embeddings", "7", "KiB", "accuracy 0.875", "seven rows"):
        expect(row).to_contain_text(told)
    page.get_by_label("Begins with").fill("wor")
    expect(row).to_have_count(0)
    expect(page.locator("#tasks-table tbody tr")).to_contain_text(["words"])
    page.get_by_label("Begins with").fill("")
    page.locator("#filter select").select_option("embeddings")
    expect(page.locator("#tasks-table tr", has_text="words")).to_have_count(0)


def test_one_task_shows_its_versions_and_a_picture_of_its_pseudo_tokens(page: Page, learning: Site) -> None:
    """A row of the picture for each pseudo-token, with the tokens that /nearest names, and the history below."""
    learning.publish("seen", soft=4, seed=1)
    learning.publish("seen", soft=5, seed=2)
    page.goto("/#tasks/seen")
    picture = page.get_by_role("img", name="nearest")
    expect(picture).to_be_visible()
    assert picture.locator("g").count() == 5 * 6
    first = learning.http.get("/tasks/seen/nearest").json()["data"][0]["tokens"][0]
    expect(picture.locator("g title").first).to_contain_text(f"cosine {first['cosine']:.3f}")
    expect(page.locator(".task tbody").last.locator("tr")).to_have_count(2)


def test_a_version_is_rolled_back_and_a_task_deleted_after_a_question(page: Page, learning: Site) -> None:
    """Nothing happens on No; on Yes the server does it and the page shows it."""
    learning.publish("goes", "one {input}")
    learning.publish("goes", "two {input}")
    page.goto("/#tasks/goes")
    page.get_by_role("button", name="Roll back to version 1").click()
    page.get_by_role("button", name="No").click()
    expect(page.locator(".task h3")).to_contain_text("version 2")
    page.get_by_role("button", name="Roll back to version 1").click()
    page.get_by_role("button", name="Yes").click()
    expect(page.locator(".task h3")).to_contain_text("version 3")
    assert learning.http.get("/tasks/goes").json()["template"] == "one {input}"
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Yes").click()
    expect(page.locator(".task")).to_have_count(0)
    assert learning.http.get("/tasks/goes").status_code == 404


def test_a_file_is_uploaded_and_a_bad_one_refused_with_the_reason(
    browser: Browser, learning: Site, tmp_path: Path
) -> None:
    """Both by dropping them at once: each has its line, the good one a link and the bad one the server's reason."""
    good, bad = tmp_path / "dropped.safetensors", tmp_path / "broken.safetensors"
    good.write_bytes(embeddings(learning.base, "{input}", 3).data)
    bad.write_bytes(b"no prompt file at all")
    with watched(browser, learning.url, refusals=True) as page:
        page.goto("/#tasks")
        page.get_by_text("Upload a task").click()
        page.locator("#upload-files").set_input_files([good, bad])
        data = page.evaluate_handle(
            "() => { const all = new DataTransfer(); for (const file of document.getElementById('upload-files').files)"
            " all.items.add(file); return all }"
        )
        page.dispatch_event("#drop", "drop", {"dataTransfer": data})
        told = page.locator("#uploaded")
        expect(told).to_contain_text("dropped is now version 1, embeddings of 3 pseudo-tokens")
        expect(told.locator(".bad")).to_contain_text("broken.safetensors was refused: 422 bad_header")
    assert learning.http.get("/tasks/dropped").json()["length"] == 3


def test_a_download_is_the_stored_file(page: Page, learning: Site, tmp_path: Path) -> None:
    """Byte for byte."""
    learning.publish("kept", soft=2, seed=5)
    page.goto("/#tasks/kept")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download", exact=True).click()
    download.value.save_as(tmp_path / "kept")
    assert (tmp_path / "kept").read_bytes() == learning.http.get("/tasks/kept/versions/1/prompt").content


def test_another_base_shows_what_it_does_not_serve(browser: Browser, tmp_path: Path, base_folder: Path) -> None:
    """A version that was learnt on another base is marked, with the reason's code."""
    with running(base_folder, tmp_path / "store") as first:
        first.publish("foreign", soft=2)
    other = save(tmp_path / "other", seed=9)
    with running(other, tmp_path / "store") as second, watched(browser, second.url) as page:
        page.goto("/")
        expect(page.locator("#tasks-table .bad")).to_have_text("not served: wrong_base")


def test_the_last_task_that_was_opened_is_shown(page: Page, learning: Site) -> None:
    """Its buttons act on what the address names."""
    names = ["one", "two", "three", "four"]
    for task in names:
        learning.publish(task)
    page.goto("/#tasks")
    page.evaluate(OPEN_ALL, names)
    expect(page.locator("#task-detail article")).to_have_attribute("data-task", "four")
