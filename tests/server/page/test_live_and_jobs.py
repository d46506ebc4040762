"""Live load and tuning jobs in a real browser."""

import json
import re

from playwright.sync_api import Page, expect

from tests.checkout import ROOT
from tests.server.page.looking import PATIENCE
from tests.server.site import Site

ROWS = (ROOT / "docs" / "examples" / "acts.csv").read_text(encoding="utf-8")
SCRAPE = """# HELP t x
t_bucket{task="x",le="1.0"} %d
t_bucket{task="x",le="2.0"} %d
t_bucket{task="x",le="+Inf"} %d
t_bucket{task="y",le="1.0"} 1
t_bucket{task="y",le="2.0"} 1
t_bucket{task="y",le="+Inf"} 1
n{task="a \\" b"} 2
n{task="c"} 3
"""
PERCENTILES = """async ([before, after]) => {
  const { parse, sum, grown, quantile } = await import('/static/prometheus.js');
  const [old, now] = [parse(before), parse(after)];
  const [buckets, none] = [grown(old, now, 't'), grown(now, now, 't')];
  const counts = buckets.map(([, count]) => count);
  const found = [quantile(.5, buckets), quantile(.99, buckets), quantile(.5, none)];
  return [counts, ...found, sum(now, 'n'), sum(now, 'n', { task: 'c' })];
}"""


def test_live_load_is_drawn_from_the_metrics(page: Page, learning: Site) -> None:
    """Tiles and four curves follow what the server does."""
    page.goto("/#live")
    expect(page.locator(".chart canvas")).to_have_count(4)
    learning.generate("some words", max_new_tokens=20)
    expect(page.locator("#tiles div", has_text="to the first token").locator("dd")).to_have_text(re.compile(r"\d ms"))
    expect(page.locator("#tiles div", has_text="running").locator("dd")).to_contain_text("0 of")


def test_percentiles_are_prometheus_own(page: Page) -> None:
    """A straight line within a bucket, sums over labels, nothing where nothing was observed."""
    page.goto("/")
    found = page.evaluate(PERCENTILES, [SCRAPE % (1, 1, 1), SCRAPE % (3, 7, 9)])
    assert found == [[2, 6, 8], 1.5, 2, None, 5, 3]


def test_a_task_is_learnt_from_pasted_rows(page: Page, learning: Site) -> None:
    """The form proposes a template, the job's curves grow, and the task can be tried when it is served."""
    page.goto("/#jobs")
    page.get_by_text("Learn a task", exact=True).click()
    page.locator("textarea[name=rows]").fill(ROWS)
    expect(page.locator("input[name=target]")).to_have_value("act")
    expect(page.locator("#job-form textarea[name=template]")).to_have_value("{text}\nAct:")
    for name, value in {
        "suffix": "learnt",
        "length": "4",
        "steps": "6",
        "batch_size": "4",
        "evaluate_every": "2",
    }.items():
        page.locator(f"#job-form [name={name}]").fill(value)
    page.get_by_role("button", name="Learn").click()
    page.locator("#job-detail article[data-status=succeeded]").wait_for(timeout=4 * PATIENCE)
    expect(page.locator("#job-curves canvas")).to_have_count(2)
    expect(page.locator("#job-events")).to_contain_text("the task is served: version 1")
    page.locator("#job-detail").get_by_role("link", name="Try it").click()
    expect(page.locator(".choice[data-side=a] .chosen")).to_have_attribute("data-fields", json.dumps(["text"]))


def test_a_running_job_is_cancelled(page: Page, learning: Site) -> None:
    """By its button, after a question."""
    page.goto("/#jobs")
    page.get_by_text("Learn a task", exact=True).click()
    page.locator("textarea[name=rows]").fill(ROWS)
    for name, value in {"suffix": "never", "length": "4", "steps": "100000", "evaluate_every": "1000"}.items():
        page.locator(f"#job-form [name={name}]").fill(value)
    page.get_by_role("button", name="Learn").click()
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Yes").click()
    page.locator("#job-detail article[data-status=cancelled]").wait_for()
