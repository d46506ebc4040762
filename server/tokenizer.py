"""Ids to text piece by piece without broken characters.

Knows one base's tokenizer; no templates, no tasks.
"""

from tuning.tokenizer import Tokenizer

__all__ = ["Spelling", "Tokenizer"]

BROKEN = "\ufffd"
CHARACTER_BYTES = 4
"""The longest UTF-8 character: no more ids than this can be waiting for one."""
MOST_WAITING = 64
"""Ids without a whole character after which what they hold is shown as it is: no text is like this."""
CONTEXT_IDS = 5
"""Ids of the prompt that are decoded in front of the first new one: some decoders drop a leading space."""


class Spelling:
    """One answer's ids as they come, spelled out. What may still become a character is held back.

    The window `ids[start:]` is decoded as a whole; it begins one whole text before `read`, the end of the last one, and
    `shown` characters of it have been given out.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_ids: list[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = prompt_ids[-CONTEXT_IDS:]
        self._start = 0
        self._read = len(self._ids)
        self._shown = len(self._decode(self._read))

    def push(self, index: int) -> str:
        """The text that is certain now."""
        self._ids.append(index)
        now = self._decode(len(self._ids))
        if not now.endswith(BROKEN):
            return self._advance(len(self._ids), now)
        waiting = len(self._ids) - self._read
        if self._tokenizer.falls_back_to_bytes:  # an id a byte, and one bad byte breaks the whole run of them
            return self._advance(self._read + 1) if waiting >= CHARACTER_BYTES else ""
        text = now[self._shown : -1]  # of bytes only the last character can still change
        self._shown += len(text)
        return text + self._advance(len(self._ids), now) if waiting >= MOST_WAITING else text

    def finish(self) -> str:
        """Whatever was held back, broken or not."""
        return self._advance(len(self._ids))

    def _advance(self, end: int, now: str | None = None) -> str:
        """What the ids before `end` say beyond what was shown; the window moves on."""
        text = (self._decode(end) if now is None else now)[self._shown :]
        self._start, self._read = self._read, end
        self._shown = len(self._decode(end))
        return text

    def _decode(self, end: int) -> str:
        ids = self._ids[self._start : end]
        return self._tokenizer.alone(ids[0]) if len(ids) == 1 else self._tokenizer.decode(ids)
