"""Which names a task may have."""

import pytest

from prompt_store.task import is_task_id


@pytest.mark.parametrize("name", ["a", "A", "0", "intent", "a.b", "a-b_c.1", "x" * 128, "Base", "base2", "a..b", "con"])
def test_good_names(name: str) -> None:
    """ASCII letters, digits, dot, underscore and hyphen, up to 128 characters."""
    assert is_task_id(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".a",
        "-a",
        "_a",
        "a/b",
        "a\\b",
        "a b",
        "a\n",
        "a\x00",
        "x" * 129,
        "é",
        "é",
        "．．",
        "base",
        "a!",
        "ı",
        "٣",
        "a\u200b",
        "%2e",
        "a;b",
        "a?b",
    ],
)
def test_bad_names(name: str) -> None:
    """Nothing that a path, a URL or a reader could take for something else; `base` is the bare model."""
    assert not is_task_id(name)
