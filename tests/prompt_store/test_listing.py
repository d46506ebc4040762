"""Pages of tasks: their order, their edges, their filters and their cost."""

from typing import Any

import pytest

from prompt_store.store import Store
from prompt_store.task import Task
from tests.prompt_store.conftest import PLACES, empty
from tests.prompt_store.make import ONE, put, text_task

IDS = sorted(["a", "a-b", "a.b", "a0", "aa", "A", "Z", "b", "b_", "b1", "x" * 128])


@pytest.fixture(scope="module", params=PLACES)
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a task for each id, one of them deleted, two of them text tasks: no test changes it."""
    return filled(Store(empty(request, tmp_path_factory.mktemp("full"))))


def filled(store: Store) -> Store:
    for name in [*IDS, "gone"]:
        put(store, name, text_task() if name in {"aa", "Z"} else ONE)
    store.delete("gone", "d")
    return store


def names(page: tuple[list[Task], bool]) -> list[str]:
    """The ids of a page."""
    return [task.name for task in page[0]]


def test_a_list_is_in_ascii_order_both_ways(full: Store) -> None:
    """Ids in ASCII order, upper case first, or reversed; deleted tasks are left out."""
    assert names(full.list()) == IDS
    assert names(full.list(order="desc")) == IDS[::-1]


@pytest.mark.parametrize("limit", [1, 2, 3, 11, 12])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_join_to_the_whole(full: Store, limit: int, order: Any) -> None:
    """Page after page gives every id once, and has_more is true exactly while something follows."""
    seen: list[str] = []
    has_more = True
    while has_more:
        tasks, has_more = full.list(limit=limit, after=seen[-1] if seen else None, order=order)
        assert len(tasks) == limit or not has_more
        seen += [task.name for task in tasks]
    assert seen == (IDS if order == "asc" else IDS[::-1])


def test_pages_begin_behind_any_id(full: Store) -> None:
    """`after` need not exist, and is exclusive where it does."""
    for after in [*IDS, "a-", "b!", "0", "zzz", ""]:
        assert names(full.list(after=after)) == [name for name in IDS if name > after]
        assert names(full.list(after=after, order="desc")) == [name for name in IDS[::-1] if name < after]


def test_lists_filter(full: Store) -> None:
    """By kind and by prefix, alone, together and with pages."""
    assert names(full.list(kind="text")) == ["Z", "aa"]
    assert names(full.list(search="a")) == ["a", "a-b", "a.b", "a0", "aa"]
    assert names(full.list(search="a", kind="text")) == ["aa"]
    assert names(full.list(search="b", after="b", limit=1)) == ["b1"]
    assert full.list(search="b", after="b", limit=1)[1] is True
    assert full.list(search="q") == ([], False)
    assert full.list(kind="text", limit=2)[1] is False


def test_a_page_reads_one_manifest_a_row(full: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing costs the rows of the page, one manifest each and no blob, whatever the size of the store.

    And the one behind it, which says that there is more; from a bucket as many as are read at once.
    """
    reads: list[str] = []
    real = full._objects.get

    def get(key: str) -> bytes:
        reads.append(key)
        return real(key)

    monkeypatch.setattr(full._objects, "get", get)
    full.list(limit=3)
    assert 4 <= len(reads) <= 3 + full._objects.parallel
    assert all(key.startswith("tasks/") for key in reads)


def test_what_a_list_leaves_out_is_named(store: Store) -> None:
    """A task whose newest manifest is garbage; deleted ones are no damage."""
    full = filled(store)
    assert list(full.damaged()) == []
    full._objects.replace("tasks/aa!/00000001.json", b"garbage")
    assert names(full.list()) == [name for name in IDS if name != "aa"]
    assert [name for name, _ in full.damaged()] == ["aa"]


def test_start_up_reads_nothing(full: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a store costs the same whatever it holds (promise 8)."""

    def refuse(*_: object) -> bytes:
        raise AssertionError

    monkeypatch.setattr(full._objects, "get", refuse)
    Store(full._objects)
