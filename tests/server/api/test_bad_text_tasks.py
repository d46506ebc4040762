"""Text tasks from strangers that cannot be: refused, and nothing is kept. Files that cannot be: tests/attacks."""

from typing import Any

import pytest

from tests.server.site import Site


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"template": "{"}, 422),
        ({"template": "{soft:2}{text}"}, 422),
        ({"template": "{text}", "labels": []}, 422),
        ({"template": "{text}", "labels": ["a", "a"]}, 422),
        ({"template": "{text}", "defaults": {"seed": 1}}, 422),
        ({"template": "{text}", "defaults": {"max_new_tokens": 0}}, 422),
        ({"template": "word " * 300 + "{text}"}, 422),
        ({"template": "{text}", "defaults": {"max_new_tokens": 1000}}, 422),
        ({"template": 1}, 400),
        ({"template": None}, 400),
        ({}, 400),
        ({"template": "{text}", "kind": "embeddings"}, 400),
        ({"template": "{text}", "length": 0}, 400),
        ({"template": "{text}", "metrics": {"a": "b"}}, 422),
        ({"tempalte": "{text}"}, 400),
        ([], 400),
    ],
)
def test_a_bad_text_task_is_refused(site: Site, body: Any, status: int) -> None:
    """A body of another shape is 400, a task that cannot be is 422."""
    answer = site.http.put("/tasks/bad-text", json=body)
    assert answer.status_code == status, answer.text
    assert site.http.get("/tasks/bad-text").status_code == 404
