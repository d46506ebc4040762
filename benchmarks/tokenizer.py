"""A tokenizer for a base of random weights: byte-level BPE like those of real bases, made of syllables, not of text.

Every id of the base is a token and most read as a word, so that what the server does between ids and text is what it
does elsewhere. Knows no weights.
"""

import json
from collections.abc import Iterator
from functools import cache
from itertools import islice, product
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SPACE = "Ġ"
"""How byte-level BPE writes a space."""
CONSONANTS = "bcdfghjklmnpqrstvwxyz"
VOWELS = "aeiou"


def _merges() -> Iterator[tuple[str, str]]:
    """Pairs in the order they merge: syllables, words of two, each with a space, then with one more consonant.

    Consonants and vowels alternate, so no other pair of a word ever merges first.
    """
    syllables = [consonant + vowel for consonant, vowel in product(CONSONANTS, VOWELS)]
    yield from product(CONSONANTS, VOWELS)
    for first, second in product(syllables, syllables):
        yield first, second
        yield SPACE, first + second
    for last, first, second in product(CONSONANTS, syllables, syllables):
        yield SPACE + first + second, last


def write_tokenizer(folder: Path, vocabulary: int) -> None:
    """tokenizer.json and its configuration, with exactly `vocabulary` ids, none of them special."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = list(islice(_merges(), vocabulary - len(alphabet)))
    tokens = [*alphabet, *(first + second for first, second in merges)]
    built = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    built.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


@cache
def words(folder: Path) -> list[str]:
    """Texts that are one id each, and as many ids together as there are of them: words with a space in front."""
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    whole = [token for token in backend.get_vocab() if token.startswith(SPACE) and len(token) >= 5]
    return [" " + token.removeprefix(SPACE) for token in sorted(whole)]
