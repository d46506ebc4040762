"""Text to ids and back, for one base. Thread-safe. Knows the base's own chat template, none of a
task and no tasks.

Special tokens are recognised in literals only: whoever calls says which text is one.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer, PreTrainedTokenizerBase

BRIEF_CHARACTERS = 4096
"""Of a longer text the library is asked as of many: of one alone it keeps Python's lock, seconds for a large one."""
NAMED = ("bos_token", "eos_token", "pad_token", "unk_token")


class Tokenizer:
    """Thread-safe: two frozen copies of the backend, one of which takes special tokens for plain text.

    `longest`: no id stands for more characters than this. `size`: one more than the largest id.
    """

    def __init__(
        self,
        backend: Backend,
        bos: int | None,
        special: frozenset[int],
        loaded: PreTrainedTokenizerBase | None = None,
    ) -> None:
        backend.no_padding()
        backend.no_truncation()
        self._special = Backend.from_str(backend.to_str())
        self._plain = Backend.from_str(backend.to_str())
        self._plain.encode_special_tokens = True
        self.special = special
        self.falls_back_to_bytes = "ByteFallback" in str(json.loads(backend.to_str())["decoder"])
        vocabulary = backend.get_vocab(with_added_tokens=True)
        self.longest = max(map(len, vocabulary))
        self.size = 1 + max(vocabulary.values())
        self.bos = bos if self._adds(bos) else None
        self._anchor = self._plain.encode("a", add_special_tokens=False).ids[-1:]
        self.piece = lru_cache(maxsize=65536)(self._piece)
        self.alone = lru_cache(maxsize=65536)(self._alone)
        self._loaded = loaded

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Of a checkpoint directory. Raises OSError or ValueError when there is none, or one of the slow kind."""
        loaded = AutoTokenizer.from_pretrained(path, trust_remote_code=False)  # nosec B615  # a folder
        backend = getattr(loaded, "backend_tokenizer", None)
        if backend is None:
            raise ValueError(f"{path}: no tokenizer.json, and none can be made of what is there")
        special = {index for index, token in backend.get_added_tokens_decoder().items() if token.special}
        return cls(backend, loaded.bos_token_id, frozenset(special), loaded)

    def _adds(self, bos: int | None) -> bool:
        return bos is not None and self._special.encode("a", add_special_tokens=True).ids[:1] == [bos]

    def encode(self, text: str, parse_special: bool) -> list[int]:
        """Ids without added special tokens."""
        backend = self._special if parse_special else self._plain
        if len(text) > BRIEF_CHARACTERS:
            return backend.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return backend.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """Text without special tokens."""
        return self._special.decode(ids, skip_special_tokens=True)

    def _alone(self, index: int) -> str:
        return self.decode([index])

    def spelled(self, ids: Sequence[int]) -> str:
        """Text with its special tokens by name."""
        return self._special.decode(list(ids), skip_special_tokens=False)

    def names(self, ids: Sequence[int]) -> list[str]:
        """As the vocabulary writes them; nothing for an id that it lacks."""
        return [self._special.id_to_token(index) or "" for index in ids]

    @property
    def about(self) -> dict[str, str | None]:
        """Special tokens by their use, and the chat template."""
        named = {name: getattr(self._loaded, name, None) for name in NAMED}
        return {**named, "chat_template": self.chat_template}

    @property
    def chat_template(self) -> str | None:
        """None where there is none, or several of which none is the usual one."""
        found = getattr(self._loaded, "chat_template", None)
        return found.get("default") if isinstance(found, dict) else found

    @property
    def special_names(self) -> dict[str, str]:
        """Special tokens as a chat template knows them: bos_token and so on."""
        return {} if self._loaded is None else {name: str(one) for name, one in self._loaded.special_tokens_map.items()}

    def _piece(self, index: int) -> str:
        """What one id reads as behind other text; special tokens by name, parts of a character as U+FFFD."""
        if index in self.special:
            return self._special.id_to_token(index) or ""
        return self.decode([*self._anchor, index])[len(self.decode(self._anchor)) :]
