"""Text to ids, and ids back to text piece by piece without broken characters.

Knows one base's tokenizer; no templates, no tasks. Special tokens are recognised in literals only: whoever calls says
which text is one.
"""

import json
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer

BROKEN = "\ufffd"
CHARACTER_BYTES = 4
"""The longest UTF-8 character: no more ids than this can be waiting for one."""
MOST_WAITING = 64
"""Ids without a whole character after which what they hold is shown as it is: no text is like this."""
CONTEXT_IDS = 5
"""Ids of the prompt that are decoded in front of the first new one: some decoders drop a leading space."""


class Tokenizer:
    """Thread-safe: two frozen copies of the backend, one of which takes special tokens for plain text.

    `longest`: no id stands for more characters than this.
    """

    def __init__(self, backend: Backend, bos: int | None, special: frozenset[int]) -> None:
        backend.no_padding()
        backend.no_truncation()
        self._special = Backend.from_str(backend.to_str())
        self._plain = Backend.from_str(backend.to_str())
        self._plain.encode_special_tokens = True
        self.special = special
        self.falls_back_to_bytes = "ByteFallback" in str(json.loads(backend.to_str())["decoder"])
        self.longest = max(map(len, backend.get_vocab(with_added_tokens=True)))
        self.bos = bos if self._adds(bos) else None
        self._anchor = self._plain.encode("a", add_special_tokens=False).ids[-1:]
        self.piece = lru_cache(maxsize=65536)(self._piece)

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Of a checkpoint directory. Raises OSError or ValueError when there is none, or one of the slow kind."""
        loaded = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        backend = getattr(loaded, "backend_tokenizer", None)
        if backend is None:
            raise ValueError(f"{path}: no tokenizer.json, and none can be made of what is there")
        special = {index for index, token in backend.get_added_tokens_decoder().items() if token.special}
        return cls(backend, loaded.bos_token_id, frozenset(special))

    def _adds(self, bos: int | None) -> bool:
        return bos is not None and self._special.encode("a", add_special_tokens=True).ids[:1] == [bos]

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return 1 + max(self._special.get_vocab(with_added_tokens=True).values())

    def encode(self, text: str, parse_special: bool) -> list[int]:
        """Ids without added special tokens."""
        backend = self._special if parse_special else self._plain
        return list(backend.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        """Text without special tokens."""
        return self._special.decode(ids, skip_special_tokens=True)

    def _piece(self, index: int) -> str:
        """What one id reads as behind other text; special tokens by name, parts of a character as U+FFFD."""
        if index in self.special:
            return self._special.id_to_token(index) or ""
        return self.decode([*self._anchor, index])[len(self.decode(self._anchor)) :]


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
        return self._tokenizer.decode(self._ids[self._start : end])
