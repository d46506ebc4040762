"""Stop strings over a growing text, and the one delimiter that may lead it.

Knows text only: what could still become a stop string, or the delimiter, is held back until it is certain.
"""


class Stopping:
    """Fed an answer's text piece by piece. The delimiter goes first: stop strings look at what follows it."""

    def __init__(self, delimiter: str, stops: tuple[str, ...]) -> None:
        self._delimiter = delimiter
        self._stops = stops
        self._held = ""
        self.matched = False

    def push(self, text: str) -> str:
        """The text that is certain now: neither a stop string nor the start of one."""
        if not self._delimiter and not self._stops:
            return text
        self._held += text
        if not self._past_delimiter():
            return ""
        found = [at for at in (self._held.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.matched = True
            return self._release(min(found), drop=True)
        return self._release(len(self._held) - self._undecided())

    def finish(self) -> str:
        """What is left when no more text comes."""
        if self.matched:
            return ""
        self._delimiter = ""  # the text ended inside it, so it is none
        return self.push("") + self._release(len(self._held))

    def _past_delimiter(self) -> bool:
        if self._delimiter.startswith(self._held) and len(self._held) < len(self._delimiter):
            return False
        self._held = self._held.removeprefix(self._delimiter)
        self._delimiter = ""
        return True

    def _undecided(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0

    def _release(self, end: int, *, drop: bool = False) -> str:
        text, self._held = self._held[:end], "" if drop else self._held[end:]
        return text
