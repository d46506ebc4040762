"""The tokenizer over HTTP, for texts and lists as long as a body may be."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.api.v1.bodies import MAX_IDS
from tests.e2e.process import serving

JSON = {"content-type": "application/json"}
CHARACTERS = 3_900_000
"""Just less than a body may have."""
LIVE_SECONDS = 2.0
"""A tenth of it alone on two cores; half a minute and more where the loop does the work."""


@pytest.fixture(scope="module")
def url(base_folder: Path) -> Iterator[str]:
    with serving("--model", str(base_folder), "--store", "memory://") as (process, _):
        yield process.url


def _slowest_probe(url: str, path: str, body: dict[str, Any]) -> tuple[httpx.Response, float]:
    """The answer, and the longest that `/livez` took beside it."""
    content, answers = json.dumps(body).encode(), []

    def ask() -> None:
        answers.append(httpx.post(url + path, content=content, headers=JSON, timeout=120))

    asking = threading.Thread(target=ask)
    slowest = 0.0
    with httpx.Client(base_url=url, timeout=60) as http:
        asking.start()
        while asking.is_alive():
            slowest = max(slowest, http.get("/livez").elapsed.total_seconds())
            asking.join(0.02)
    return answers[0], slowest


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {"prompt": "a" * CHARACTERS}),
        ("/tokenize", {"prompt": "a" * CHARACTERS, "return_token_strs": True}),
        ("/detokenize", {"tokens": [5] * MAX_IDS}),
    ],
    ids=["text", "names", "ids"],
)
def test_the_longest_of_them_keep_nobody_waiting(url: str, path: str, body: dict[str, Any]) -> None:
    """Whether the loop still answers beside them, and they are whole."""
    answer, slowest = _slowest_probe(url, path, body)
    found = answer.raise_for_status().json()
    assert found.get("count", 0) in {0, CHARACTERS + 1}
    assert len(found.get("prompt", found.get("tokens"))) >= MAX_IDS
    assert slowest < LIVE_SECONDS
