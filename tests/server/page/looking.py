"""A window on a server, in which every complaint counts: scripts' errors, refused policies, requests elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect

PATIENCE = 30_000
"""Milliseconds until something that should be seen at once is given up."""
expect.set_options(timeout=PATIENCE)


@contextmanager
def watched(browser: Browser, url: str, *, refusals: bool = False, **options: Any) -> Iterator[Page]:
    """`refusals`: the server is going to say no, which the browser's console repeats."""
    context = browser.new_context(base_url=url, viewport={"width": 1200, "height": 900}, **options)
    complaints: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("request", lambda asked: None if asked.url.startswith((url, "blob:")) else complaints.append(asked.url))
    try:
        yield page
    finally:
        context.close()
    expected = "Failed to load resource: the server responded"
    found = [one for one in complaints if not (refusals and one.startswith(expected))]
    assert not found


def choose(page: Page, side: str, task: str) -> None:
    """Names a task on one side of the playground and waits until the server has said what it wants."""
    box = page.locator(f"input[name=task-{side}]")
    box.fill(task)
    box.press("Tab")
    page.locator(f".choice[data-side={side}] .chosen[data-task='{task}']").wait_for(state="attached")


def answer(page: Page, side: str) -> Locator:
    """One side's answer, complete."""
    found = page.locator(f".answer[data-side={side}][aria-busy=false]")
    expect(found).to_be_visible()
    return found
