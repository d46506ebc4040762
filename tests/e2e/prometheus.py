"""A real Prometheus with the configuration of docker/monitoring, asked over its HTTP API."""

import math
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
import yaml

from tests.docker.monitoring import RULES, scrape
from tests.server.site import until

PATIENCE = 60.0
SCRAPES = "250ms"
"""Between two scrapes: a test has no quarter of a minute for each."""


class Prometheus:
    """Running; `url` is its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False)

    def ready(self) -> bool:
        """It listens before it answers queries."""
        return self._http.get("/-/ready").status_code == 200

    def query(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """Labels and values of an instant query, those that are no numbers left out. Fails where it does not parse."""
        answer = self._http.post("/api/v1/query", data={"query": expr})
        assert answer.status_code == 200, f"{expr}: {answer.text}"
        found = [(one["metric"], float(one["value"][1])) for one in answer.json()["data"]["result"]]
        return [(labels, value) for labels, value in found if not math.isnan(value)]

    def rules(self) -> list[dict[str, Any]]:
        """As they were evaluated last."""
        groups = self._http.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def close(self) -> None:
        self._http.close()


def configured(target: str, key: Path) -> dict[str, Any]:
    """The configuration as it is shipped, but for what is asked, how often, and where the files are."""
    found = scrape()
    found["global"] = {"scrape_interval": SCRAPES, "evaluation_interval": SCRAPES}
    found["rule_files"] = [str(RULES)]
    (job,) = found["scrape_configs"]
    job["authorization"]["credentials_file"] = str(key)
    job["static_configs"] = [{"targets": [target]}]
    return found


@contextmanager
def watching(url: str, key: Path, folder: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the server at `url` and shows it the key in the file `key`."""
    folder.mkdir()
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(configured(url.removeprefix("http://"), key)), encoding="utf-8")
    process = subprocess.Popen(
        [
            "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
        ],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    listening: Queue[str] = Queue()
    said: list[str] = []

    def read() -> None:
        assert process.stderr is not None
        with process.stderr as stream:
            for line in stream:
                said.append(line)
                if found := re.search(r'msg="Listening on" address=(\S+)', line):
                    listening.put(f"http://{found[1]}")
        listening.put("")

    reader = threading.Thread(target=read)
    reader.start()
    try:
        address = listening.get(timeout=PATIENCE)
        assert address, said
        running = Prometheus(address)
        until(running.ready, "it answers queries", PATIENCE)
        yield running
        running.close()
    finally:
        process.terminate()
        process.wait(PATIENCE)
        reader.join()
