"""Asks a server whether it is well, again and again, in a process of its own: one that fuzzes has pauses of its own.

`python prober.py URL PID EVERY TIMEOUT` prints a line of JSON each time: what was said, the seconds it took, and those
that a busy machine kept the server's threads and this one waiting. Ends with its parent. Imports nothing but Python's
own, to be there soon.
"""

import http.client
import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit


def probe(url: str, timeout: float) -> str:
    """The status. A connection of its own each time: one that is kept would not see a server that takes no new ones."""
    address = urlsplit(url)
    with closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout)) as connection:
        try:
            connection.request("GET", "/livez")
            return str(connection.getresponse().status)
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__


def waited(pid: str) -> dict[str, float]:
    """Seconds that each of the server's threads and this one had work and no processor, as Linux tells them."""
    found = {}
    for file in (Path("/proc/thread-self/schedstat"), *Path(f"/proc/{pid}/task").glob("*/schedstat")):
        with suppress(OSError):  # no Linux, or a thread that has ended
            found[file.parent.name] = int(file.read_text().split()[1]) / 1e9
    return found


def longer(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Of the threads that were there all the while: one that has ended takes its seconds with it."""
    return sum(after[thread] - before[thread] for thread in before.keys() & after.keys())


def main(url: str, pid: str, every: float, timeout: float) -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        threading.Event().wait(every)
        before, began = waited(pid), time.monotonic()
        said, took = probe(url, timeout), time.monotonic() - began
        sys.stdout.write(f"{json.dumps({'said': said, 'took': took, 'busy': longer(before, waited(pid))})}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
