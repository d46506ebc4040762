"""Measuring: every peer does the same work, and an answer of another length is no result."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import arguments
from benchmarks.order import Launch, Order
from benchmarks.parts import mixed
from benchmarks.preloads import ALLOCATOR, OPENMP, best_libraries
from benchmarks.timing import timed
from benchmarks.workload import TINY, Job

PEFT_WARNINGS = ("ignore::FutureWarning:transformers", "ignore:Position ids are not supported:UserWarning:peft")


def short(jobs: Sequence[Job], _concurrency: int) -> list[list[int]]:
    """Answers one id too few."""
    return [[0] * (TINY.new_tokens - 1) for _ in jobs]


def launches(*words: str) -> list[Launch]:
    return mixed.launches(arguments(["--tiny", "--threads", "1", "--concurrency", "1", "4", *words]), 0)


def measured(peer: str) -> dict[str, Any]:
    """Its timings, alone and in batches of 4."""
    (launch,) = launches("--peers", peer)
    return {"label": peer, "preload": [], **mixed.measure(Order.from_json(launch.argument))}


@pytest.mark.filterwarnings(*PEFT_WARNINGS)
@pytest.mark.parametrize("peer", ["engine", "peft"])
def test_peers_answer_alike(peer: str) -> None:
    """The engine and PEFT begin every answer with the id that a static batch begins it with, alone and in batches."""
    results = [measured(name) for name in ("static", peer)]
    expected, found = ([timing["first_ids"] for timing in result["timings"]] for result in results)
    assert found == expected
    assert len(set(map(tuple, expected))) == 1
    assert len(set(expected[0])) > 1


def test_continuous_batching_answers_whole_texts() -> None:
    """Its answers have their length alone and in batches; as its inputs are others, nothing is said of agreement."""
    runs = [measured("engine"), measured("continuous")]
    assert [timing["requests"] for timing in runs[1]["timings"]] == [8, 8]
    assert mixed.agreement(runs) == {}


def test_a_short_answer_is_refused() -> None:
    """A peer that generates less than asked for is not measured."""
    with pytest.raises(ValueError, match="other than"):
        timed(short, TINY.jobs(2), 1, TINY.new_tokens)


def test_an_order_survives_its_process() -> None:
    """What the measuring process reads is what was ordered."""
    given = Order("mixed", "folder", TINY, 1, {"peer": "engine"})
    assert Order.from_json(given.to_json()) == given


def test_peers_take_turns_from_either_end() -> None:
    """Every second repeat runs the other way round: none is always measured first."""
    words = ["--tiny", "--peers", "static", "peft"]
    first, second = ([launch.label for launch in mixed.launches(arguments(words), turn)] for turn in (0, 1))
    assert first == second[::-1] == ["static", "peft"]


def test_a_peer_with_preloads_gets_them(tmp_path: Path) -> None:
    """NAME+preload is NAME with the libraries loaded in front, and NAME is without."""
    library = str(tmp_path / OPENMP)
    plain, preloaded = launches("--peers", "engine", "engine+preload", "--preload", library)
    assert (plain.preload, preloaded.preload) == ((), (library,))
    assert plain.argument == preloaded.argument


def test_peers_that_are_not_there_are_named() -> None:
    """A peer that no one knows, or that lacks its interpreter, ends the command with its name."""
    for name in ("nothing", "vllm", "sketch"):
        with pytest.raises(SystemExit, match=name):
            launches("--peers", name)


def test_preloads_are_found_where_they_are_installed(tmp_path: Path) -> None:
    """The OpenMP of the other environment is taken when this one has none."""
    library = tmp_path / "lib" / OPENMP
    library.parent.mkdir()
    library.touch()
    found = best_libraries(str(tmp_path / "bin" / "python"))
    assert found[0].endswith(OPENMP)
    assert all(Path(file).match(ALLOCATOR) for file in found[1:])
