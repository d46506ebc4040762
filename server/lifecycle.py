"""Whether the server is leaving, and the requests that are being answered. Knows no HTTP and no process."""

import asyncio
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Lifecycle:
    """Of one server. `draining`: what runs may finish, nothing new begins. `over`: what still runs is cut off."""

    draining: bool = False
    over: bool = False
    running: set["asyncio.Task[Any]"] = field(default_factory=set)

    def cut(self) -> None:
        """Ends what still runs; whoever has had no answer is told why."""
        self.over = True
        for task in self.running:
            task.cancel()
