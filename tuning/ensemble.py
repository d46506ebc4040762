"""Several soft prompts of one task asked at once and heard as one (Lester et al., arXiv 2104.08691, section 6).

One pass reads every example behind every prompt; `vote`: each prompt has one voice, `mean`: their probabilities are
averaged. A vote that is even goes to the label with the most probability. Knows likelihoods; no files.
"""

from collections import Counter
from collections.abc import Sequence
from math import exp
from typing import Literal

import torch

from tuning.base import FrozenBase
from tuning.crowd import Member, gather
from tuning.encoding import Encoded, shared_head
from tuning.likelihood import chunks, log_likelihoods
from tuning.soft import Soft

How = Literal["vote", "mean"]


def probabilities(likelihoods: Sequence[float]) -> list[float]:
    """softmax, as `/classify` tells them."""
    most = max(likelihoods)
    parts = [exp(one - most) for one in likelihoods]
    return [part / sum(parts) for part in parts]


def heard(members: Sequence[Sequence[float]], how: How) -> int:
    """The label that several prompts' likelihoods of one example decide for."""
    told = [probabilities(one) for one in members]
    mean = [sum(column) / len(told) for column in zip(*told, strict=True)]
    if how == "mean":
        return max(range(len(mean)), key=mean.__getitem__)
    votes = Counter(max(range(len(one)), key=one.__getitem__) for one in told)
    return max(range(len(mean)), key=lambda label: (votes[label], mean[label]))


@torch.no_grad()
def likelihoods(
    base: FrozenBase, softs: Sequence[Soft], prompts: Sequence[Sequence[Encoded]]
) -> list[list[list[float]]]:
    """By member and example the likelihoods of its answers: `prompts[k]` are the examples as member k reads them."""
    heads = [shared_head(some) for some in prompts]
    crowd = gather(base, [Member(soft, head) for soft, head in zip(softs, heads, strict=True)])
    lengths = [len(head) for head in heads]
    found: list[list[list[float]]] = [[[] for _ in some] for some in prompts]
    for chunk in chunks(dict(enumerate(prompts)), lengths, base.positions):
        some = {member: [prompts[member][row] for row in rows] for member, rows in chunk.items()}
        for member, likely in log_likelihoods(base, crowd, some, lengths).items():
            for row, one in zip(chunk[member], likely.tolist(), strict=True):
                found[member][row] = one
    return found
