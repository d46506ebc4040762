"""Tasks, texts and popularity: exact sizes, different contents, the same ones every time."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.load import ask, bring, requests, running
from benchmarks.popularity import PATTERNS, Pattern, picks
from benchmarks.prompts import prompt_file, resident_prompts, texts
from benchmarks.tokenizer import write_tokenizer
from benchmarks.workload import TINY, Workload
from prompt_store.base import read_base
from prompt_store.metadata import KINDS, Kind
from server.engine.request import Request
from server.engine.settings import EngineSettings
from server.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TINY.shape.write(tmp_path_factory.mktemp("base"))


def test_texts_have_exactly_their_length(checkpoint: Path) -> None:
    """Every text is as many ids as asked for, whatever stands in front of it, and ids read as text again."""
    tokenizer = Tokenizer.load(checkpoint)
    found = texts(checkpoint, 8, 6)
    assert {len(tokenizer.encode(text, parse_special=False)) for text in found} == {6}
    assert all(tokenizer.decode(tokenizer.encode(text, parse_special=False)) == text for text in found)
    assert len(set(found)) == 8
    assert texts(checkpoint, 4, 6) == found[:4]


def test_the_tokenizer_has_the_bases_ids(checkpoint: Path, tmp_path: Path) -> None:
    """No id of the base is without a token; a real vocabulary's size does not repeat one either."""
    assert Tokenizer.load(checkpoint).size == TINY.shape.vocabulary
    real = Workload().shape.vocabulary
    write_tokenizer(tmp_path, real)
    assert Tokenizer.load(tmp_path).size == real


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_of_every_kind_run_and_differ(kind: Kind, checkpoint: Path) -> None:
    """Six tasks answer one text in more than one way, and a task answers it the same way again."""
    base = read_base(checkpoint)
    files = [prompt_file(kind, TINY.length, index, base, checkpoint) for index in range(6)]
    assert len({file.digest for file in files}) == 6
    prompts = resident_prompts(files, checkpoint)
    sampling = requests(prompts, [0], TINY)[0].sampling
    with running(checkpoint, EngineSettings(max_total_tokens=TINY.whole)) as engine:
        bring(engine, prompts)
        assert engine.snapshot().resident_prompts == 6
        asked = [Request(index, (*p.head, 7, 300), sampling, p) for index, p in enumerate(prompts)]
        first, second = ([tuple(answer.ids) for answer in ask(engine, asked, 6)] for _ in range(2))
    assert first == second
    assert len(set(first)) > 1


@pytest.mark.parametrize("pattern", PATTERNS)
def test_popularity_is_what_it_says(pattern: Pattern) -> None:
    """Distinct and uniform spread, skewed has a favourite, identical has nothing else; all within the tasks."""
    drawn = Counter(picks(pattern, 100, 10_000))
    most = drawn.most_common(1)[0][1] / 10_000
    low, high = {"distinct": (0.01, 0.01), "uniform": (0.01, 0.02), "skewed": (0.37, 0.45), "identical": (1, 1)}[
        pattern
    ]
    assert low <= most <= high
    assert set(drawn) <= set(range(100))
    assert picks(pattern, 1, 3) == [0, 0, 0]
