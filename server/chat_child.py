"""The program that renders chat templates: a line of JSON in, a line out, until its input ends.

Run as a file, by `server.chat`; nothing of ours is imported. A template that takes too long is ended by the kernel, and
this process with it; one that takes too much memory fails here.
"""

import json
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

MEMORY = 512 * 2**20
"""Bytes that a conversation may take."""


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to a whole group: the end of the input is the end
        signal.signal(number, signal.SIG_IGN)
    _bound_memory()
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, asked["seconds"])  # of CPU: a busy machine ends no good template
        said = _rendered(asked)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(json.dumps(said).encode() + b"\n")
        sys.stdout.buffer.flush()


def _bound_memory() -> None:
    """Beyond what is mapped now; where the system does not tell, only time is bounded."""
    told = Path("/proc/self/statm")
    if told.is_file():
        mapped = int(told.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))


def _rendered(asked: dict[str, Any]) -> str | None:
    """None for a conversation that the template does not take, or makes too long a text of."""
    try:
        rendered: Any = render_jinja_template(
            [asked["messages"]],
            chat_template=asked["template"],
            add_generation_prompt=asked["answer"],
            **asked["special"],
        )
    except Exception:  # noqa: BLE001 - whatever a program of others raises
        return None
    text = str(rendered[0][0])
    return text if len(text) <= asked["characters"] else None


if __name__ == "__main__":
    main()
