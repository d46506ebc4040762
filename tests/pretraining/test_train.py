"""A base's training can be killed at any time and reaches the same weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pretraining import train

SMALL = "0.3m"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of two short rows: the machinery of a long run in seconds."""
    monkeypatch.setattr(train, "STEP_TOKENS", 128)
    monkeypatch.setattr(train, "STAGES", ((0.0, 64), (0.5, 128)))


class TinyStream:
    """Ids that depend on the position alone, as the real stream's do."""

    def __init__(self, *_: object) -> None:
        pass

    def batch(self, position: int, rows: int, length: int) -> object:
        generator = torch.Generator().manual_seed(position)
        return torch.randint(3, train.VOCABULARY, (1, 32), generator=generator).numpy()


def test_a_resumed_run_reaches_the_same_weights(short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six steps in one go and six steps in two processes' worth end bit for bit alike."""
    monkeypatch.setattr(train, "Stream", TinyStream)
    monkeypatch.setattr(train, "tokenizer_of", lambda *_: None)
    whole, halves = tmp_path / "whole", tmp_path / "halves"

    def run(out: Path, until: int) -> None:
        recipe = train.Recipe(
            tmp_path, out, tokens=6 * train.STEP_TOKENS, seed=1, save_seconds=0.0, compiled=False, shape=SMALL
        )
        train.train(recipe, until=until)

    run(whole, 6)
    run(halves, 4)
    assert not (halves / "step-000006").exists()
    run(halves, 6)
    one, two = (load_file(out / "step-000006" / "model.safetensors") for out in (whole, halves))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_only_the_last_two_checkpoints_are_kept(short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder does not grow with the run."""
    monkeypatch.setattr(train, "Stream", TinyStream)
    monkeypatch.setattr(train, "tokenizer_of", lambda *_: None)
    train.train(train.Recipe(tmp_path, tmp_path, tokens=5 * 128, seed=1, save_seconds=0.0, compiled=False, shape=SMALL))
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-000004", "step-000005"]


def test_the_schedule_warms_up_holds_and_decays_to_zero() -> None:
    """The rate ends near zero and never passes one."""
    scales = [train.schedule(step, 1000) for step in range(1000)]
    assert max(scales) == 1.0
    assert scales[0] == pytest.approx(1 / train.WARMUP_STEPS)
    assert scales[-1] == pytest.approx(1 / (train.DECAY_PART * 1000))
