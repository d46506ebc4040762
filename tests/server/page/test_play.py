"""The playground in a real browser: what is shown is what the API answers."""

import re

from playwright.sync_api import Browser, Page, Route, expect

from tests.server.page.looking import answer, choose, watched
from tests.server.site import Site, until

CHOOSE_ALL = """tasks => {
  const box = document.querySelector('input[name=task-a]');
  for (const task of tasks) {
    box.value = task;
    box.dispatchEvent(new Event('change', { bubbles: true }));
  }
}"""
STOP_AT_ONCE = """() => {
  const click = () => document.querySelector('[name=stop]').click();
  new MutationObserver(click).observe(document.querySelector('.answer'), { attributeFilter: ['aria-busy'] });
}"""


def test_two_tasks_answer_the_same_input_side_by_side(page: Page, learning: Site) -> None:
    """One box where each wants one field; tokens join to what /generate says, with probabilities and counts."""
    learning.publish("left", "{text}", soft=3, seed=3)
    learning.publish("right", "Q: {question}\nA:")
    page.goto("/#play/left")
    choose(page, "b", "right")
    boxes = page.locator("#inputs textarea")
    expect(boxes).to_have_count(1)
    boxes.fill("some words")
    page.get_by_text("Parameters", exact=True).click()
    page.get_by_label("Most new tokens").fill("6")
    page.get_by_role("button", name="Generate").click()
    for side, task, field in (("a", "left", "text"), ("b", "right", "question")):
        wanted = learning.generate({field: "some words"}, task, max_new_tokens=6, logprobs=5)
        shown = answer(page, side)
        tokens = shown.locator(".text .token:not(.special)").all_text_contents()
        assert "".join(tokens) == wanted["generated_text"]
        likely = [round(2.718281828 ** one["logprob"] * 100) for one in wanted["logprobs"]]
        cells = shown.locator(".tokens td.number").all_text_contents()
        assert [round(float(cell.split()[0])) for cell in cells] == likely
        usage = wanted["usage"]
        bar = shown.get_by_role("img", name=f"{usage['soft_tokens']} pseudo-tokens")
        expect(bar).to_have_attribute("aria-label", re.compile(f"{usage['completion_tokens']} generated"))


def test_what_was_found_in_memory_is_shown(page: Page, learning: Site) -> None:
    """The second time a long beginning comes, the bar says how much of it was not read again."""
    learning.publish("long", "play some jazz, please. " * 12 + "{input}")
    learning.generate("first", "long", max_new_tokens=1)
    again = learning.generate("second", "long", max_new_tokens=1)["usage"]["cached_tokens"]
    assert again > 0
    page.goto("/#play/long")
    page.locator("#inputs textarea").fill("second")
    page.locator("#inputs textarea").press("Control+Enter")
    expect(answer(page, "a").locator(".share")).to_have_attribute(
        "aria-label", re.compile(f", {again} of the text found")
    )


def test_who_types_already_is_not_moved_elsewhere(page: Page, learning: Site) -> None:
    """What the server says of a task that somebody came to try may arrive late."""
    learning.publish("late", "{input}", soft=2)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/page/pane?*", hold)
    with page.expect_request("**/page/pane?*"):
        page.goto("/#play/late")
    other = page.locator("input[name=task-b]")
    other.focus()
    expect(other).to_be_focused()
    held[0].continue_()
    page.locator(".choice[data-side=a] .chosen[data-task='late']").wait_for(state="attached")
    expect(page.locator("#inputs textarea")).to_be_visible()
    expect(other).to_be_focused()


def test_two_versions_of_one_task_are_compared(page: Page, learning: Site) -> None:
    """Each side asks the version that was chosen for it."""
    learning.publish("twice", "{input}", soft=2, seed=11)
    learning.publish("twice", "{input}", soft=2, seed=12)
    page.goto("/#play/twice")
    choose(page, "b", "twice")
    page.locator(".choice[data-side=b] select").select_option("1")
    page.locator(".choice[data-side=b] option[selected]").wait_for(state="attached")
    page.locator("#inputs textarea").fill("some words")
    page.get_by_role("button", name="Generate").click()
    expect(answer(page, "a").locator(".facts")).to_contain_text("version 2")
    expect(answer(page, "b").locator(".facts")).to_contain_text("version 1")


def test_labels_are_chosen_among(page: Page, learning: Site) -> None:
    """Classify stands beside Generate where the task has labels, and shows /classify's probabilities."""
    learning.publish("sorted", "{input}\nIs:", labels=["yes", "no"], target_delimiter=" ")
    page.goto("/#play/sorted")
    page.locator("#inputs textarea").fill("well")
    page.get_by_role("button", name="Classify").click()
    wanted = learning.http.post("/classify", json={"task": "sorted", "inputs": "well"}).json()
    expect(answer(page, "a").locator(".text")).to_have_text(wanted["label"])
    expect(page.locator(".scores tr")).to_have_count(2)


def test_a_stopped_answer_frees_its_place(page: Page, learning: Site) -> None:
    """Stop says so, and the server has nothing running."""
    page.goto("/#play")
    choose(page, "a", "base")
    page.locator("#inputs textarea").fill("some words")
    page.get_by_text("Parameters", exact=True).click()
    page.get_by_label("Most new tokens").fill("200")
    page.evaluate(STOP_AT_ONCE)
    page.get_by_role("button", name="Generate").click()
    expect(answer(page, "a").locator(".bad")).to_have_text("stopped")
    until(learning.idle, "the server is idle")


def test_a_refused_question_says_why(browser: Browser, learning: Site) -> None:
    """The server's reason stands where the answer would."""
    with watched(browser, learning.url, refusals=True) as page:
        page.goto("/#play")
        choose(page, "a", "base")
        page.locator("#inputs textarea").fill("some words")
        page.get_by_text("Parameters", exact=True).click()
        page.get_by_label("Most new tokens").fill("1000000")
        page.get_by_role("button", name="Generate").click()
        expect(answer(page, "a").locator(".bad")).to_contain_text("400 context_length_exceeded")
        page.goto("/#tasks/nothing")
        expect(page.get_by_role("alert")).to_contain_text("404 task_not_found")


def test_a_task_that_is_not_there_costs_no_typing(browser: Browser, learning: Site) -> None:
    """It is told, nothing can be generated, and what was typed is there when a task is."""
    learning.publish("there", "{text}")
    with watched(browser, learning.url, refusals=True) as page:
        page.goto("/#play/there")
        expect(page.locator("#inputs textarea")).to_be_focused()
        page.locator("#inputs textarea").fill("typed with care")
        page.locator("input[name=task-a]").fill("nowhere")
        page.locator("input[name=task-a]").press("Tab")
        expect(page.get_by_role("alert")).to_contain_text("404 task_not_found")
        expect(page.get_by_role("button", name="Generate")).to_be_disabled()
        choose(page, "a", "there")
        expect(page.locator("#inputs textarea")).to_have_value("typed with care")
        expect(page.get_by_role("button", name="Generate")).to_be_enabled()


def test_a_side_without_labels_says_so(page: Page, learning: Site) -> None:
    """The other is classified all the same."""
    learning.publish("labelled", "{input}\nIs:", labels=["yes", "no"])
    learning.publish("unlabelled", "{input}")
    page.goto("/#play/labelled")
    choose(page, "b", "unlabelled")
    page.locator("#inputs textarea").fill("well")
    page.get_by_role("button", name="Classify").click()
    expect(answer(page, "a").locator(".scores tr")).to_have_count(2)
    expect(answer(page, "b").locator(".bad")).to_have_text("this task has no labels to choose among")


def test_the_last_of_several_choices_is_asked(page: Page, learning: Site) -> None:
    """However fast they came one after the other."""
    for task in ("first", "second", "third"):
        learning.publish(task, f"{task} {{text}}")
    page.goto("/#play/first")
    expect(page.locator("#inputs textarea")).to_be_focused()
    page.evaluate(CHOOSE_ALL, ["second", "first", "second", "third"])
    page.locator("#inputs textarea").fill("some words")
    page.get_by_role("button", name="Generate").click()
    expect(answer(page, "a").locator("h3")).to_have_text("third")
    expect(page.locator(".choice[data-side=a] .chosen")).to_have_attribute("data-task", "third")


def test_enter_in_the_id_asks_the_task_that_was_typed(page: Page, learning: Site) -> None:
    """As soon as the server has said what it wants, and with what was typed before."""
    learning.publish("entered", "Said {text}")
    page.goto("/#play/entered")
    page.locator("#inputs textarea").fill("some words")
    page.locator("input[name=task-a]").fill("base")
    page.locator("input[name=task-a]").press("Enter")
    expect(answer(page, "a").locator("h3")).to_have_text("base")
    expect(page.locator("#inputs textarea")).to_have_value("some words")
