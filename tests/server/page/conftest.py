"""A real Chromium, and a server for it to look at."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.server.page.looking import watched
from tests.server.site import Site
from tests.server.site import site as running
from tests.tools import tool

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not for the whole session: its event loop would stand in the way of tests that have their own."""
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=tool("chromium"), args=list(FLAGS))


@pytest.fixture(scope="module")
def learning(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server of this module's own that learns too."""
    folder = tmp_path_factory.mktemp("page")
    with running(base_folder, folder / "store", jobs=str(folder / "jobs")) as found:
        yield found


@pytest.fixture
def page(browser: Browser, learning: Site) -> Iterator[Page]:
    """A page of its own context; whatever the browser complained of fails the test."""
    with watched(browser, learning.url) as found:
        yield found
