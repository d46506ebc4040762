"""Who had the cores, and who waited for one: seconds that the kernel counts of each thread (Linux).

Knows processes by their number; not what they do.
"""

import time
from dataclasses import dataclass
from pathlib import Path

NANOSECOND = 1e-9


@dataclass(frozen=True, slots=True)
class Spent:
    """`ran` on a core, `waited` for one that another thread had: seconds."""

    ran: float
    waited: float

    def less(self, earlier: "Spent") -> "Spent":
        return Spent(self.ran - earlier.ran, self.waited - earlier.waited)


class Stopwatch:
    """Of one process, from now on. Threads that end before they are read are not in it: no server has many of them."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._began = time.perf_counter()
        self._before = _threads(pid)

    def read(self) -> dict[str, float]:
        """Seconds a second of the process's first thread, and of all its others together."""
        seconds, found = time.perf_counter() - self._began, _threads(self._pid)
        told = {"main_ran": 0.0, "main_waited": 0.0, "others_ran": 0.0, "others_waited": 0.0}
        for thread, spent in found.items():
            since = spent.less(self._before.get(thread, Spent(0.0, 0.0)))
            who = "main" if thread == self._pid else "others"
            told[f"{who}_ran"] += since.ran / seconds
            told[f"{who}_waited"] += since.waited / seconds
        return told


def _threads(pid: int) -> dict[int, Spent]:
    found = {}
    for folder in Path(f"/proc/{pid}/task").iterdir():
        try:
            ran, waited, _ = (folder / "schedstat").read_text(encoding="ascii").split()
        except FileNotFoundError:
            continue
        found[int(folder.name)] = Spent(int(ran) * NANOSECOND, int(waited) * NANOSECOND)
    return found
