"""A decode pass that was recorded once says, played again, what transformers says alone: whatever has changed since."""

import gc
import logging
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from server.engine import replays
from server.engine.engine import Engine
from server.engine.model import BaseModel
from server.engine.request import Request, Sampling, TokenEvent
from server.engine.settings import EngineSettings
from tests import models
from tests.server.engine import matrix, oracle, prompts
from tests.server.engine.gpu.bases import base_on_tape
from tests.server.engine.gpu.tape import Tape

MOST = 3
"""Sequences at once: recordings of 1, 2 and 3 rows."""
FAMILIES = ("gemma2", "gpt2", "llama-wide", "qwen3")
"""Those that differ in what kernels and recordings see: a capped score, a window, a norm of heads, positions that are
learnt, layers that are not Llama's. `python -m tests.server.engine.matrix gpu` takes all."""


def reference_of(folder: Path) -> PreTrainedModel:
    found: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return found


def engine_on(base: BaseModel, most: int = MOST) -> Engine:
    found = Engine(base, EngineSettings(max_batch=most, max_batch_tokens=64, threads=1))
    found.start()
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a family whose layers have no kernels but attention's: the interpreter takes its time for each."""
    return models.save(tmp_path_factory.mktemp("base"), "opt")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_and_kind_on_a_gpus_way(family: str, tmp_path: Path) -> None:
    """Logits within 1e-4 of transformers alone, all kinds in the same passes; nearly all decodes are played."""
    base, tape = base_on_tape(models.save(tmp_path / "base", family))
    asked = matrix.few_requests_of(base)
    cells = matrix.differences(base, reference_of(tmp_path / "base"), asked)
    assert set(cells) == {"front", "behind", "prefix"}
    assert all(cell.close for cell in cells.values()), "\n".join(matrix.lines({family: cells}))
    assert tape.recordings == len(replays.sizes(len(asked))) * (1 if base.no_adapters else 2)
    assert tape.plays >= tape.recordings + matrix.NEW - 2


def test_adapters_are_played_beside_all_others(tmp_path: Path) -> None:
    """Whose they are follows from where they lie in memory: no recording was made with any."""
    base, tape = base_on_tape(models.save(tmp_path / "base"))
    asked = [(kind, one) for kind, one in matrix.requests_of(base) if kind in {"adapter", "prefix"}][:4]
    cells = matrix.differences(base, reference_of(tmp_path / "base"), asked)
    assert set(cells) == {"adapter", "prefix"}
    assert all(cell.close for cell in cells.values()), "\n".join(matrix.lines({"llama": cells}))
    assert tape.recordings == 2 * len(replays.sizes(len(asked)))
    assert tape.plays >= tape.recordings + matrix.NEW - 2


def test_a_recording_follows_slots_that_move_and_grow(folder: Path) -> None:
    """Slots are laid out anew as a sequence outgrows them, and closed up when another leaves."""
    base, tape = base_on_tape(folder)
    engine, reference = engine_on(base, 4), reference_of(folder)  # three are played as four
    lengths = [(4, 5), (22, 22), (10, 12)]
    asked = [
        Request(number, prompts.text(50 + number, length), Sampling(max_new_tokens=new, ignore_eos=True))
        for number, (length, new) in enumerate(lengths)
    ]
    found = oracle.ask_all(engine, asked)
    span = engine._runner.kv.span
    engine.close()
    for request, events in zip(asked, found, strict=True):
        new = request.sampling.max_new_tokens
        assert oracle.ids_of(events) == oracle.generate(reference, request.ids, None, new)
    assert span >= 44
    assert tape.plays - tape.recordings >= 20


def test_a_pass_with_prefills_is_run_as_it_is(folder: Path) -> None:
    """Only the second id of an answer comes of a pass of decodes alone."""
    base, tape = base_on_tape(folder)
    engine = engine_on(base, 1)
    before = tape.plays
    oracle.ids_of(oracle.ask(engine, Request(2, prompts.text(4, 7), Sampling(1))))
    assert tape.plays == before
    oracle.ids_of(oracle.ask(engine, Request(3, prompts.text(4, 7), Sampling(2, ignore_eos=True))))
    assert tape.plays == before + 1
    engine.close()


def test_sampled_ids_and_logprobs_are_those_of_a_pass_that_is_run(folder: Path) -> None:
    """What a recording leaves is read as any pass's logits are."""
    wish = Sampling(max_new_tokens=6, temperature=0.9, top_k=40, seed=5, logprobs=3, ignore_eos=True)
    base, _ = base_on_tape(folder)
    plain = BaseModel.load(folder, device="cpu", dtype="float32")
    one, two = engine_on(base), engine_on(plain)
    found, wanted = (oracle.ask(engine, Request(1, prompts.text(9, 11), wish)) for engine in (one, two))
    one.close()
    two.close()
    assert oracle.ids_of(found) == oracle.ids_of(wanted)
    mine, theirs = ([one.logprob for one in events if isinstance(one, TokenEvent)] for events in (found, wanted))
    assert len(mine) == 6
    assert mine == pytest.approx(theirs, abs=1e-4)


def looks_at_a_number(base: BaseModel) -> None:
    """A rotary embedding whose scaling follows the longest position does so."""
    plain = base.logits

    def logits(embedded: torch.Tensor, positions: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return plain(embedded, positions + int(positions.max() > 4096), rows)

    base.logits = logits  # type: ignore[method-assign]


def makes_numbers(base: BaseModel) -> None:
    plain = base.logits

    def logits(embedded: torch.Tensor, positions: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return plain(embedded * torch.tensor([1.0]), positions, rows)

    base.logits = logits  # type: ignore[method-assign]


def stands_still(base: BaseModel) -> None:
    """A recorder whose recordings do nothing."""
    tape = Tape()

    def record(work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        return tape.record(work)[0], lambda: None

    base.recorder = lambda: record


@pytest.mark.parametrize("spoil", [looks_at_a_number, makes_numbers, stands_still])
def test_a_base_that_cannot_be_recorded_is_run_as_it_is(
    spoil: Callable[[BaseModel], None], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And the log says why, once; its answers are those of transformers all the same."""
    base, _ = base_on_tape(folder)
    spoil(base)
    with caplog.at_level(logging.WARNING):
        engine = engine_on(base)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "decode passes are not recorded" in caplog.text
    found = oracle.ids_of(oracle.ask(engine, Request(1, prompts.text(8, 9), Sampling(8, ignore_eos=True))))
    engine.close()
    assert found == oracle.generate(reference_of(folder), prompts.text(8, 9), None, 8)


def test_recordings_go_without_a_collector(tmp_path: Path) -> None:
    """When the engine has closed, and when the one with adapters, which comes last, finds no memory."""
    folder = models.save(tmp_path)
    kept: list[weakref.ref[Callable[[], Any]]] = []

    def engine_with(recordings: int) -> Engine:
        base, tape = base_on_tape(folder)
        kept.clear()

        def record(work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
            if len(kept) == recordings:
                raise torch.OutOfMemoryError("CUDA out of memory")
            kept.append(weakref.ref(work))
            return tape.record(work)

        base.recorder = lambda: record
        return engine_on(base, 1)

    gc.collect()
    gc.disable()
    try:
        engine = engine_with(2)
        assert [work() is not None for work in kept] == [True, True]
        engine.close()
        del engine
        assert [work() for work in kept] == [None, None]
        engine_with(1).close()
        assert [work() for work in kept] == [None]
    finally:
        gc.enable()


def test_a_deterministic_engine_records_nothing(folder: Path) -> None:
    """Its passes always have the same number of rows, prefills among them."""
    base, tape = base_on_tape(folder)
    Engine(base, EngineSettings(max_batch=MOST, deterministic=True, threads=1))
    assert tape.recordings == 0


@pytest.mark.parametrize(
    ("most", "wanted"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (20, [1, 2, 4, 8, 16, 20]), (24, [1, 2, 4, 8, 16, 24])],
)
def test_recordings_are_of_few_sizes(most: int, wanted: list[int]) -> None:
    """So that a pass never has twice as many rows as sequences, nor, up to 64, eight more."""
    assert replays.sizes(most) == wanted


def test_many_rows_cost_few_recordings() -> None:
    """Each keeps its logits: of 256 rows all together keep three times as many as the largest alone."""
    assert replays.sizes(200)[-3:] == [64, 128, 200]
    assert sum(replays.sizes(replays.MOST)) < 3 * replays.MOST


def test_a_pass_of_more_rows_than_are_recorded_is_run_as_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Three sequences, and recordings of two at most; no pass raises, to be run again in parts."""
    monkeypatch.setattr(replays, "MOST", 2)
    base, tape = base_on_tape(folder)
    engine = engine_on(base)
    asked = [Request(number, prompts.text(60 + number, 5), Sampling(4, ignore_eos=True)) for number in range(3)]
    found = oracle.ask_all(engine, asked)
    engine.close()
    reference = reference_of(folder)
    assert tape.recordings == 2
    assert not caplog.records
    for request, events in zip(asked, found, strict=True):
        assert oracle.ids_of(events) == oracle.generate(reference, request.ids, None, 4)
