"""/docs: the API's document in a real browser, with nothing from elsewhere and, where keys are set, with the key."""

from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from server.page.routes import DOCS_POLICY
from tests.server.page.looking import watched
from tests.server.site import Site
from tests.server.site import site as running

READER = "a-key-that-may-read"


def execute_version(page: Page) -> None:
    """Opens GET /version and asks it, as a reader would."""
    operation = page.locator(".opblock", has_text="/version").filter(has_text="The server's version")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("200")


def test_every_operation_is_shown_and_can_be_tried(page: Page, learning: Site) -> None:
    """As many as the document has; the strict policy is never offended; nobody else is asked anything."""
    document = learning.http.get("/openapi.json").json()
    page.goto("/docs")
    expect(page.locator(".opblock")).to_have_count(sum(len(methods) for methods in document["paths"].values()))
    execute_version(page)
    page.locator(".opblock", has_text="/classify").locator(".opblock-summary-control").click()
    expect(page.locator(".opblock.is-open", has_text="/classify")).to_contain_text("Request body")


def test_a_closed_server_asks_for_the_key_here_too(browser: Browser, base_folder: Path, tmp_path: Path) -> None:
    """The shell holds nothing of the document; the key given once is shown by every call."""
    with running(base_folder, tmp_path / "store", api_key=READER) as closed:
        shell = closed.http.get("/docs")
        assert shell.status_code == 200
        assert "/classify" not in shell.text
        with watched(browser, closed.url, refusals=True) as page:
            page.goto("/docs")
            expect(page.get_by_role("dialog")).to_be_visible()
            expect(page.locator("#told")).to_contain_text("401 invalid_api_key")
            page.get_by_label("The key").fill(READER)
            page.keyboard.press("Enter")
            execute_version(page)


def test_the_viewer_reads_no_other_document(page: Page) -> None:
    """A link to /docs cannot bring a document or a setting along."""
    page.goto("/docs?url=https://evil.example/openapi.json&configUrl=https://evil.example/config.json")
    expect(page.locator(".opblock").first).to_be_visible()
    expect(page.locator(".info .title")).to_contain_text("softprompt")


def test_the_policy_lets_in_nothing_but_pictures_in_the_style_sheet(site: Site) -> None:
    """Scripts, styles and calls are this server's own; nothing inline, no frame around it."""
    policy = site.http.get("/docs").headers["content-security-policy"]
    assert policy == DOCS_POLICY["Content-Security-Policy"]
    for part in (
        "default-src 'none'",
        "script-src 'self';",
        "style-src 'self';",
        "connect-src 'self';",
        "frame-ancestors 'none'",
    ):
        assert part in policy
    assert "unsafe" not in policy
