"""Ids to text without broken characters, text to ids without special tokens from strangers."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers

from server.tokenizer import BROKEN, Spelling, Tokenizer
from tests.models import tokenizer as backend
from tests.server.pauses import beside


@pytest.fixture(scope="module")
def byte_level() -> Tokenizer:
    return Tokenizer(backend(), 0, frozenset({0, 1, 2}))


_PLAIN = [*range(33, 127), *range(161, 173), *range(174, 256)]
_MOVED = [byte for byte in range(256) if byte not in _PLAIN]
_BYTE_POINTS = [byte if byte in _PLAIN else 256 + _MOVED.index(byte) for byte in range(256)]
"""GPT-2's letters for bytes: the code point that stands for each byte."""


def sentencepiece() -> Tokenizer:
    """Like Llama 2's: a leading blank is dropped by the decoder, unknown characters fall back to bytes."""
    vocabulary = {"<unk>": 0} | {f"<0x{byte:02X}>": byte + 1 for byte in range(256)}
    for piece in ("▁", "a", "b", "▁a", "▁b"):
        vocabulary[piece] = len(vocabulary)
    made = Backend(models.BPE(vocab=vocabulary, merges=[("▁", "a"), ("▁", "b")], unk_token="<unk>", byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return Tokenizer(made, None, frozenset())


def spelled(tokenizer: Tokenizer, prompt: list[int], ids: list[int]) -> list[str]:
    spelling = Spelling(tokenizer, prompt)
    return [*(spelling.push(index) for index in ids), spelling.finish()]


@given(text=st.text(max_size=40))
def test_any_text_is_spelled_out_unbroken(byte_level: Tokenizer, text: str) -> None:
    """The pieces of a text's own ids join to the text, and no piece shows half a character."""
    pieces = spelled(byte_level, [], byte_level.encode(text, parse_special=False))
    assert "".join(pieces) == text
    assert BROKEN in text or all(BROKEN not in piece for piece in pieces)


@given(ids=st.lists(st.integers(0, 380), max_size=40))
def test_any_ids_come_out_as_decoded_at_once(byte_level: Tokenizer, ids: list[int]) -> None:
    """A random model's ids, broken characters and all, give the text that decoding them together gives."""
    assert "".join(spelled(byte_level, [], ids)) == byte_level.decode(ids)


def across() -> Tokenizer:
    """Byte-level, with tokens that end one character and begin the next."""
    alphabet = {chr(point): byte for byte, point in enumerate(_BYTE_POINTS)}
    letters = list(alphabet)
    pairs = [(0xAD, 0xE4), (0xE4, 0xB8), (0x98, 0xF0), (0x9F, 0x8E)]
    merges = [(letters[first], letters[second]) for first, second in pairs]
    vocabulary = {**alphabet, **{"".join(pair): 256 + number for number, pair in enumerate(merges)}}
    made = Backend(models.BPE(vocabulary, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return Tokenizer(made, None, frozenset())


@given(text=st.text(alphabet="中丰😘🎷a ", max_size=20))
def test_tokens_across_characters_lose_none(text: str) -> None:
    """Whole characters come out as soon as they are whole, whatever else the token holds."""
    tokenizer = across()
    pieces = spelled(tokenizer, [], tokenizer.encode(text, parse_special=False))
    assert "".join(pieces) == text
    assert all(BROKEN not in piece for piece in pieces)


@given(ids=st.lists(st.integers(0, 259), max_size=60))
def test_any_ids_across_characters_come_out_as_decoded_at_once(ids: list[int]) -> None:
    """Noise too."""
    tokenizer = across()
    assert "".join(spelled(tokenizer, [], ids)) == tokenizer.decode(ids)


def test_endless_noise_is_not_held_for_ever() -> None:
    """Beyond the most that may wait, what is there is shown."""
    tokenizer = across()
    spelling = Spelling(tokenizer, [])
    assert len("".join(spelling.push(0xFF) for _ in range(1000))) >= 999
    assert len(spelling._ids) - spelling._start <= 3 * 64


def test_a_split_character_is_held_until_it_is_whole(byte_level: Tokenizer) -> None:
    """An emoji of several ids appears with its last one."""
    ids = byte_level.encode("🎷", parse_special=False)
    pieces = spelled(byte_level, [], ids)
    assert len(ids) > 1
    assert pieces[:-2] == [""] * (len(ids) - 1)
    assert pieces[-2] == "🎷"


def test_half_a_character_at_the_end_is_shown_as_such() -> None:
    """What never becomes a character is U+FFFD, once nothing more comes."""
    tokenizer = sentencepiece()
    assert "".join(spelled(tokenizer, [], [0xE2 + 1])) == BROKEN


def test_the_blank_before_the_first_word_is_kept() -> None:
    """A decoder that drops a leading blank drops it at the start of a text, not at the start of an answer."""
    tokenizer = sentencepiece()
    prompt = tokenizer.encode("a", parse_special=False)
    answer = tokenizer.encode("b", parse_special=False)
    assert "".join(spelled(tokenizer, prompt, answer)) == " b"


def test_special_tokens_are_recognised_on_demand_only(byte_level: Tokenizer) -> None:
    """A user who writes </s> gets its characters, a template gets the token."""
    assert byte_level.encode("</s>", parse_special=True) == [1]
    assert 1 not in byte_level.encode("</s>", parse_special=False)


def test_bos_is_known_only_where_the_tokenizer_adds_it(base_folder: Path) -> None:
    """A BOS that the configuration names but the tokenizer never writes is not written."""
    assert Tokenizer.load(base_folder).bos == 0
    without = backend()
    without.post_processor = None
    assert Tokenizer(without, 0, frozenset({0})).bos is None


def test_a_piece_reads_as_it_does_inside_a_text(byte_level: Tokenizer) -> None:
    """Pieces keep their blank; special tokens are named."""
    tokenizer = sentencepiece()
    assert tokenizer.piece(tokenizer.encode("b", parse_special=False)[0]) == " b"
    assert byte_level.piece(1) == "</s>"


@pytest.mark.parametrize("special", [True, False])
def test_a_long_text_is_read_as_a_short_one_and_keeps_nobody_waiting(byte_level: Tokenizer, special: bool) -> None:
    """Other threads go on meanwhile; the ids are the library's own of one text."""
    text = "play <s> {a} some jazz é " * 20_000
    alone = byte_level._special if special else byte_level._plain
    ids, pause = beside(lambda: byte_level.encode(text, special))
    assert ids == alone.encode(text, add_special_tokens=False).ids
    assert pause < 1 / 2
