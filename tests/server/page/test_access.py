"""Keys, keyboard, screen reader, colours and narrow windows, in a real browser."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.server.page.looking import answer, watched
from tests.server.site import Site
from tests.server.site import site as running

VIEWS = ("tasks", "play", "live", "jobs")
READER, OWNER = "a-key-that-may-read", "a-key-that-may-all"


def test_a_closed_server_asks_for_the_key_and_takes_it(browser: Browser, base_folder: Path, tmp_path: Path) -> None:
    """The shell opens without data; with the key everything comes; the key goes with the tab."""
    with running(base_folder, tmp_path / "store", api_key=READER, admin_key=OWNER) as closed:
        closed.http.headers["authorization"] = f"Bearer {OWNER}"
        closed.publish("secret")
        with watched(browser, closed.url, refusals=True) as page:
            page.goto("/")
            expect(page.get_by_role("dialog")).to_be_visible()
            assert "secret" not in page.content()
            page.get_by_label("The key").fill(READER)
            page.keyboard.press("Enter")
            expect(page.locator("#tasks-table")).to_contain_text("secret")
            page.goto("/#jobs")
            expect(page.get_by_role("alert")).to_contain_text("403 insufficient_scope")
            expect(page.get_by_text("Learn a task")).to_be_hidden()


def test_everything_is_reached_by_the_keyboard(page: Page, learning: Site) -> None:
    """Tab goes through skip link, views, colours and key in order; Enter opens a view; the skip link leads to it."""
    page.goto("/")
    names = []
    for _ in range(8):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.textContent.trim()"))
    assert names == ["Skip to content", "Tasks", "Playground", "Live", "Jobs", "API", "◐", "Key"]
    page.locator("nav a", has_text="Playground").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Playground")).to_be_visible()
    expect(page.locator("nav [aria-current=page]")).to_have_text("Playground")
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, learning: Site, scheme: str) -> None:
    """The accessibility checker has nothing to say of any view, contrast of both colour schemes included."""
    learning.publish("checked", "{input}", soft=3, labels=["yes", "no"], description="to be looked at")
    with watched(browser, learning.url, color_scheme=scheme) as page:
        for place in (*VIEWS, "tasks/checked", "play/checked"):
            page.goto(f"/#{place}")
            page.locator(f"#view-{place.split('/')[0]}").wait_for()
            if place == "tasks/checked":
                page.locator(".nearest svg").wait_for()
            if place == "play/checked":
                page.locator("#inputs textarea").fill("some words")
                page.get_by_role("button", name="Generate").click()
                answer(page, "a")
            closed = page.locator("details:not([open]):visible > summary")
            while closed.count():
                closed.first.click()
            found = Axe().run(page)
            assert found.violations_count == 0, (place, found.generate_report())


def test_colours_follow_the_button(page: Page) -> None:
    """System, light, dark, and the choice is kept."""
    page.goto("/")
    button = page.locator("#theme")
    grounds = set()
    for theme in ("light", "dark"):
        button.click()
        expect(page.locator("html")).to_have_attribute("data-theme", theme)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_a_narrow_window_needs_no_sideways_scrolling(browser: Browser, learning: Site) -> None:
    """On a telephone's width only tables and pictures scroll, each by itself."""
    with watched(browser, learning.url) as page:
        page.set_viewport_size({"width": 380, "height": 800})
        learning.publish("narrow", soft=12, labels=["yes", "no"], description="a long sentence " * 9)
        for view in (*VIEWS, "tasks/narrow"):
            page.goto(f"/#{view}")
            page.locator(f"#view-{view.split('/')[0]}").wait_for()
            if view == "tasks/narrow":
                page.locator(".nearest svg").wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= 380, view


@pytest.mark.parametrize("place", ["constructor", "toString/x", "__proto__", "nothing", "tasks/%"])
def test_a_place_that_is_none_is_not_an_empty_page(browser: Browser, learning: Site, place: str) -> None:
    """Some view is always there, and no script has failed."""
    with watched(browser, learning.url, refusals=True) as page:
        page.goto(f"/#{place}")
        expect(page.locator("#view-tasks")).to_be_visible()
