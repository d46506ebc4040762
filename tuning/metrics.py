"""How good answers are: accuracy, exact match, token F1 and ROUGE-L from 0 to 1, BLEU, chrF and TER from 0 to 100.

Knows texts; not tokens, models or files. Several references may belong to one answer.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

References = Sequence[Sequence[str]]


def accuracy(answers: Sequence[str], references: References) -> float:
    """Share of answers that are one of their references, letter for letter: also the exact match of free text."""
    hits = sum(answer in refs for answer, refs in zip(answers, references, strict=True))
    return hits / len(answers)


def token_f1(answers: Sequence[str], references: References) -> float:
    """Mean over answers of the best F1 of shared words with any reference."""
    return _mean_best(answers, references, _f1)


def rouge_l(answers: Sequence[str], references: References) -> float:
    """Mean over answers of the best F1 of the longest common subsequence (Lin 2004; no stemming)."""
    return _mean_best(answers, references, _lcs_f1)


def bleu(answers: Sequence[str], references: References) -> float:
    """sacrebleu's corpus BLEU (13a tokens, case kept) with all references of each answer."""
    return float(BLEU().corpus_score(list(answers), _columns(references)).score)


def chrf(answers: Sequence[str], references: References) -> float:
    """sacrebleu's chrF2 with all references of each answer."""
    return float(CHRF().corpus_score(list(answers), _columns(references)).score)


def ter(answers: Sequence[str], references: References) -> float:
    """sacrebleu's translation edit rate (Snover et al. 2006) to the nearest reference: lower is better."""
    return float(TER().corpus_score(list(answers), _columns(references)).score)


METRICS: Mapping[str, Callable[[Sequence[str], References], float]] = {
    "accuracy": accuracy,
    "exact_match": accuracy,
    "token_f1": token_f1,
    "rouge_l": rouge_l,
    "bleu": bleu,
    "chrf": chrf,
    "ter": ter,
}
"""Every metric of texts by its name in reports; higher is better, but for LOWER."""
LOWER = frozenset({"ter"})


def rank(metric: str, value: float) -> float:
    """Higher is better."""
    return -value if metric in LOWER else value


def _columns(references: References) -> Any:
    """One list per reference number, as sacrebleu wants them; None (which its types lack) where there is none."""
    return [list(column) for column in zip_longest(*references)]


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _mean_best(answers: Sequence[str], references: References, score: Callable[[list[str], list[str]], float]) -> float:
    best = [
        max(score(_words(answer), _words(ref)) for ref in refs)
        for answer, refs in zip(answers, references, strict=True)
    ]
    return sum(best) / len(best)


def _f1(answer: list[str], reference: list[str]) -> float:
    return _harmonic(sum((Counter(answer) & Counter(reference)).values()), answer, reference)


def _lcs_f1(answer: list[str], reference: list[str]) -> float:
    row = [0] * (len(reference) + 1)
    for word in answer:
        diagonal = 0
        for column, other in enumerate(reference, start=1):
            diagonal, row[column] = row[column], diagonal + 1 if word == other else max(row[column], row[column - 1])
    return _harmonic(row[-1], answer, reference)


def _harmonic(shared: int, answer: list[str], reference: list[str]) -> float:
    """2PR / (P + R) with P = shared / len(answer) and R = shared / len(reference); two empty texts agree."""
    total = len(answer) + len(reference)
    return 2 * shared / total if total else 1.0
