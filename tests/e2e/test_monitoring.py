"""docker/monitoring against the real thing: a Prometheus that scrapes a server with keys while it is asked things."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from prompt_store.prompt import parse
from prompt_store.store import Store
from server.config import EMBEDDED_TASKS
from tests.docker.monitoring import alerts, queries
from tests.e2e.process import serving
from tests.e2e.prometheus import Prometheus, watching
from tests.server.site import connect

KEY = "one-that-opens-nothing"
WINDOW = "1m"
SECONDS = 120.0
ACTS = "confirm(number_of_seats=2), confirm(city_of_event=New York)"


@dataclass(frozen=True, slots=True)
class Watched:
    prometheus: Prometheus
    url: str


def one_of_everything(client: httpx.Client) -> None:
    """Generations of several tasks, a batch, streams, a classification, errors, and clients that leave."""
    for task, text in (("intent", "play some jazz"), ("dialogue", ACTS), ("base", "It was")):
        answer = client.post("/generate", json={"task": task, "inputs": text, "parameters": {"max_new_tokens": 16}})
        assert answer.status_code == 200, answer.text
    many = [{"task": "dialogue", "inputs": ACTS} for _ in range(4)]
    assert client.post("/generate", json={"requests": many}).status_code == 200
    assert client.post("/generate_stream", json={"task": "dialogue", "inputs": ACTS}).status_code == 200
    body = {"model": "base", "prompt": "It was", "max_tokens": 16, "stream": True}
    assert client.post("/v1/completions", json=body).status_code == 200
    assert client.post("/classify", json={"task": "subjectivity", "inputs": "a fine film"}).status_code == 200
    assert client.post("/generate", json={"task": "nobody", "inputs": "x"}).status_code == 404
    long: dict[str, Any] = {"inputs": "It was", "parameters": {"max_new_tokens": 400, "ignore_eos": True}}
    with client.stream("POST", "/generate_stream", json=long) as stream:
        next(stream.iter_lines())
    request = client.build_request("POST", "/generate", json=long)
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with connect(str(client.base_url)) as leaving:
        leaving.sendall(f"POST /generate HTTP/1.1\r\n{head}\r\n".encode() + request.content)


@contextmanager
def asked(url: str) -> Iterator[None]:
    """Two clients ask one thing after the other, until the end; what goes wrong for them is raised there."""
    done = threading.Event()
    wrong: list[BaseException] = []

    def ask() -> None:
        try:
            with httpx.Client(
                base_url=url, timeout=SECONDS, trust_env=False, headers={"Authorization": f"Bearer {KEY}"}
            ) as client:
                while not done.is_set():
                    one_of_everything(client)
        except BaseException as error:  # noqa: BLE001 - told at the end
            wrong.append(error)

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        done.set()
        for client in clients:
            client.join()
    assert not wrong


@pytest.fixture(scope="module")
def watched(prometheus_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """The embedded base on a store that was filled before: its soft prompts are read when they are asked for."""
    folder = tmp_path_factory.mktemp("monitoring")
    store = Store.open(str(folder / "store"))
    for path in EMBEDDED_TASKS.glob("*.safetensors"):
        store.publish(path.stem, parse(path.read_bytes()), verified=True, op_id=path.stem)
    key = folder / "key"
    key.write_text(KEY, encoding="utf-8")
    variables = {"SOFTPROMPT_API_KEY": KEY, "SOFTPROMPT_JOBS": str(folder / "jobs")}
    with (
        serving("--store", str(folder / "store"), **variables) as (process, _),
        watching(process.url, key, folder / "watching") as prometheus,
    ):
        until_data(prometheus, {"up == 1": frozenset()})
        with asked(process.url):
            yield Watched(prometheus, process.url)


def until_data(prometheus: Prometheus, wanted: dict[str, frozenset[str]]) -> None:
    """Until each query has numbers, with the labels that it is wanted with."""
    deadline = time.monotonic() + SECONDS
    missing = dict(wanted)
    while missing:
        assert time.monotonic() < deadline, f"no numbers: {sorted(missing)}"
        for expr, labels in list(missing.items()):
            found = prometheus.query(expr)
            if found and all(labels <= set(one) for one, _ in found):
                del missing[expr]


def test_every_line_of_the_dashboard_shows_something(watched: Watched) -> None:
    """Each query has numbers while the server is asked, and each label of its legend has a value."""
    wanted = {query.asked(WINDOW): query.labels for query in queries()}
    assert len(wanted) > 40
    until_data(watched.prometheus, wanted)


def test_no_alert_fires_while_all_is_well(watched: Watched) -> None:
    """Every rule was evaluated without an error; unknown tasks and clients that leave alarm nobody."""
    recorded = ["softprompt:http_errors:ratio_rate5m"]
    recorded += [f"softprompt:{name}_seconds:p95_rate5m" for name in ("time_to_first_token", "request_queue_time")]
    until_data(watched.prometheus, dict.fromkeys(recorded, frozenset({"instance"})))
    found = watched.prometheus.rules()
    assert {rule["name"] for rule in found} == {*alerts(), *recorded}
    assert [(rule["name"], rule.get("lastError")) for rule in found if rule["health"] != "ok"] == []
    assert [rule["name"] for rule in found if rule.get("state", "inactive") != "inactive"] == []


def test_measured_times_fall_into_the_middle_of_the_buckets(watched: Watched) -> None:
    """Of each latency: the median above the first bucket, nothing beyond the last, more than one bucket in use."""
    names = ("time_to_first_token", "time_per_output_token", "e2e_request_latency")
    for name in names:
        series = f"softprompt_{name}_seconds_bucket"
        until_data(watched.prometheus, {f'sum({series}{{le="+Inf"}}) > 100': frozenset()})
        counts = {float(one["le"]): value for one, value in watched.prometheus.query(f"sum by (le) ({series})")}
        up_to = [counts[bound] for bound in sorted(counts)]
        assert up_to[0] < up_to[-1] / 2, (name, counts)
        assert up_to[-1] == up_to[-2], (name, counts)
        assert len({*up_to, 0.0}) > 2, (name, counts)


def test_without_its_key_it_sees_nothing_and_says_so(watched: Watched, tmp_path: Path) -> None:
    """The key that stands for none is refused by a server with keys, and the alert that something is down begins."""
    none = Path(__file__).parents[2] / "docker" / "monitoring" / "no-key"
    with watching(watched.url, none, tmp_path / "blind") as blind:
        until_data(blind, {"up == 0": frozenset(), 'ALERTS{alertname="SoftpromptDown"}': frozenset()})
        assert blind.query("softprompt_num_slots") == []
