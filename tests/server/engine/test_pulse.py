"""Whether the engine comes round, and that its end is heard of."""

import queue
from pathlib import Path

import pytest

from server.engine.engine import Engine
from server.engine.model import BaseModel
from server.engine.request import Event, Failed, Request, Sampling
from server.engine.settings import EngineSettings
from tests import models
from tests.server.site import until

PATIENCE = 30


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """Not started."""
    base = BaseModel.load(models.save(tmp_path / "base"), device="cpu", dtype="float32")
    return Engine(base, EngineSettings(max_batch=4, threads=1))


def asked(engine: Engine) -> "queue.SimpleQueue[Event]":
    """What becomes of a request."""
    sink: queue.SimpleQueue[Event] = queue.SimpleQueue()
    engine.submit(Request(0, (0, 1, 2), Sampling(max_new_tokens=2, ignore_eos=True), None), sink)
    return sink


def test_a_thread_that_never_wakes_is_silent(engine: Engine) -> None:
    """From the moment it has something to do; without anything it is not, and having done it no more."""
    assert engine.pulse.silent_seconds == 0
    asked(engine)
    until(lambda: engine.pulse.silent_seconds > 0, "it is silent")
    engine.start()
    until(lambda: engine.pulse.silent_seconds == 0, "it has come round")
    engine.close()


def test_an_end_that_was_asked_for_is_heard_of(engine: Engine) -> None:
    """And the engine was well."""
    engine.start()
    assert not engine.pulse.ended.done()
    assert not engine.pulse.ended.cancel(), "whoever waits for it cannot take it from others"
    engine.close()
    engine.pulse.ended.result(PATIENCE)
    assert engine.healthy


def test_a_thread_that_dies_is_heard_of(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it dies of: what waited has its terminal event, and it is not well."""
    monkeypatch.setattr(engine, "_expire", lambda: 1 / 0)
    monkeypatch.setattr("threading.excepthook", lambda _: None)
    sink = asked(engine)
    engine.start()
    engine.pulse.ended.result(PATIENCE)
    assert not engine.healthy
    assert isinstance(sink.get(timeout=PATIENCE), Failed)
    assert engine.pulse.silent_seconds == 0
