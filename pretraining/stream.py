"""The text the base model learns from, as one deterministic sequence of token ids an epoch.

Only train parts of `tuning.splits`, never a label and never two fields of one row side by side: inputs and answers of a
task are documents of their own, and copy exercises are made of one text each. bAbI stays out (its grammar writes the
same sentences on both sides of its split).
"""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tuning.datasets import DATA_SETS
from tuning.splits import split

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
BOS_ID, EOS_ID, PAD_ID = 0, 1, 2

REPEATS = {
    "tinystories": 16, "tinyshakespeare": 5, "wikitext2": 5, "onestop": 5, "gutenberg": 1, "sgd_dialogues": 1,
    "snips": 5, "clinc150": 6, "banking77": 3, "rt_polarity": 5, "subj": 5, "custrev": 4, "e2e_nlg": 4,
    "dart": 2, "sgd": 1, "scitldr": 3, "gsm8k": 1,
}  # fmt: skip
"""How often an epoch reads each data set: small corpora and task texts more often than the books."""

COPIED = {"sgd": "text", "e2e_nlg": "ref", "dart": "ref", "gsm8k": "question", "scitldr": "summary"}
"""Data set -> the field whose texts also become copy exercises."""
COPY_REPEATS = 2
COPY_STYLES = ("{}", "[{}]", "({})")


def _fields(name: str) -> tuple[str, ...]:
    return ("acts",) if name == "sgd" else DATA_SETS[name].texts  # sgd's utterances are in sgd_dialogues already


def documents(root: Path) -> Iterator[tuple[str, str]]:
    """(data set, text) of every distinct train text, in file order."""
    for name in REPEATS:
        texts = (row[field] for row in split(root, name).train for field in _fields(name))
        yield from ((name, text) for text in dict.fromkeys(texts))


def copied(root: Path) -> list[str]:
    """Distinct train texts that copy exercises are made of, in file order."""
    texts = (row[field] for name, field in COPIED.items() for row in split(root, name).train)
    return list(dict.fromkeys(texts))


def copy_exercise(text: str, draw: random.Random) -> str:
    """Some of the text's own words, shuffled, a line break, the text.

    Made of the text alone: no label, no second field. It teaches what every data-to-text task needs and running prose
    hardly shows, to take up words given earlier. Names and numbers (a capital or a digit inside the text) are always
    among the words, with one to three others, as runs of at most four words.
    """
    words = text.split()
    starts = [i for i, word in enumerate(words) if i and (word[0].isupper() or word[0].isdigit())]
    starts += draw.sample(range(len(words)), min(len(words), draw.randint(1, 3)))
    runs: list[str] = []
    free = 0
    for start in sorted(set(starts)):
        if start >= free:
            free = start + 1
            while free in starts and free - start < 4:
                free += 1
            runs.append(" ".join(words[start:free]).strip(".,;:!?\"'()[]"))
    draw.shuffle(runs)
    style = draw.choice(COPY_STYLES)
    return ", ".join(style.format(run) for run in runs if run) + "\n" + text


def train_tokenizer(root: Path, vocabulary: int) -> Tokenizer:
    """Byte-level BPE of `vocabulary` ids, digits apart (numbers are copied digit by digit), BOS in front of a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        (text for _, text in documents(root)),
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[BOS, EOS, PAD],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, BOS_ID)])
    return tokenizer


class Stream:
    """Batches [rows, length] of ids: every epoch shuffles the repeated documents anew and joins them with EOS."""

    def __init__(self, root: Path, tokenizer: Tokenizer, seed: int) -> None:
        named = list(documents(root))
        draw = random.Random(f"{seed}/copy")
        exercises = [copy_exercise(text, draw) for text in copied(root) for _ in range(COPY_REPEATS)]
        encodings = tokenizer.encode_batch_fast([*(text for _, text in named), *exercises])
        self._documents = [np.array([*e.ids, EOS_ID], np.uint16) for e in encodings]
        self._repeats = [*(REPEATS[name] for name, _ in named), *(1 for _ in exercises)]
        self._seed = seed
        self._epoch = -1
        self._ids: npt.NDArray[np.uint16] = np.empty(0, np.uint16)

    @property
    def epoch_tokens(self) -> int:
        return sum(len(ids) * count for ids, count in zip(self._documents, self._repeats, strict=True))

    def batch(self, position: int, rows: int, length: int) -> npt.NDArray[np.int64]:
        """The ids from absolute token `position` on: a pure function of the seed, so a resumed run reads on exactly."""
        return self._span(position, rows * length).reshape(rows, length).astype(np.int64)

    def _span(self, position: int, count: int) -> npt.NDArray[np.uint16]:
        epoch, start = divmod(position, self.epoch_tokens)
        if epoch != self._epoch:
            self._epoch, self._ids = epoch, self._shuffled(epoch)
        head = self._ids[start : start + count]
        if len(head) == count:
            return head
        return np.concatenate([head, self._span((epoch + 1) * self.epoch_tokens, count - len(head))])

    def _shuffled(self, epoch: int) -> npt.NDArray[np.uint16]:
        order = [index for index, count in enumerate(self._repeats) for _ in range(count)]
        random.Random(f"{self._seed}/{epoch}").shuffle(order)
        return np.concatenate([self._documents[index] for index in order])
