"""Log-likelihoods of answers: one forward pass for a batch of prompts with all their answers.

The shared head of all prompts runs once. A row of the batch holds the rest of one prompt and, behind it, the answers
side by side as a tree: each sees the prompt and itself. An answer's last id is never fed, so one-token labels cost
nothing. Padding stands right of what it could disturb. (A base with a sliding window gets one row per answer: a mask
of ours would widen its window.) Knows nothing of objectives or optimisers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tuning.base import FrozenBase
from tuning.encoding import Encoded


@dataclass(frozen=True, slots=True)
class Packed:
    """Tensors of one batch. `mask` is None where plain causal attention is right: no answer stands beside another.

    `picks` [n, 4]: batch row, position whose logits count, id that should follow, answer it belongs to.
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor | None
    picks: Tensor


def pack(batch: Sequence[Encoded], head: int, device: torch.device) -> Packed:
    """Sequences less their first `head` ids, padded right to the widest."""
    fed: list[list[int]] = []
    positions: list[list[int]] = []
    owners: list[list[int]] = []  # the answer an id belongs to, -1 for the prompt, -2 for padding
    picks: list[tuple[int, int, int, int]] = []
    count = len(batch[0].answers)
    for row, one in enumerate(batch):
        ids = list(one.prompt[head:])
        end = len(ids)
        place, owner = list(range(end)), [-1] * end
        for which, answer in enumerate(one.answers):
            picks.append((row, end - 1, answer[0], row * count + which))
            for offset, following in enumerate(answer[1:]):
                picks.append((row, len(ids), following, row * count + which))
                ids.append(answer[offset])
                place.append(end + offset)
                owner.append(which)
        fed.append(ids)
        positions.append(place)
        owners.append(owner)
    width = max(map(len, fed))
    beside = any(sum(len(answer) > 1 for answer in one.answers) > 1 for one in batch)
    return Packed(
        ids=_padded(fed, width, 0, device),
        positions=_padded(positions, width, 0, device) + head
        if beside
        else torch.arange(head, head + width, device=device).expand(len(fed), -1),
        mask=_tree(_padded(owners, width, -2, device), head) if beside else None,
        picks=torch.tensor(picks, device=device),
    )


def _padded(rows: Sequence[Sequence[int]], width: int, value: int, device: torch.device) -> Tensor:
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], device=device)


def _tree(owners: Tensor, head: int) -> Tensor:
    """owners [b, n] -> what is added to the attention scores [b, 1, n, head + n]: 0 where seen, else the minimum."""
    width = owners.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=owners.device).tril()
    same = owners[:, :, None] == owners[:, None, :]
    prompt = (owners == -1)[:, None, :]
    seen = torch.nn.functional.pad((same | prompt) & causal, (head, 0), value=True)
    return torch.zeros(seen.shape, device=owners.device).masked_fill(~seen, torch.finfo(torch.float32).min)[:, None]


def log_likelihoods(base: FrozenBase, rows: Tensor, batch: Sequence[Encoded], head: Sequence[int]) -> Tensor:
    """[batch, answers]: the sum of natural log-probabilities of each answer's ids. `head` begins every prompt.

    All of a batch have equally many answers.
    """
    shape = (len(batch), len(batch[0].answers))
    if not base.sees_all:
        batch = [Encoded(one.prompt, (answer,)) for one in batch for answer in one.answers]
    packed = pack(batch, len(head), base.device)
    past = base.past(head, rows, len(batch))
    row, column, following, answer = packed.picks.unbind(1)
    columns, which = column.unique(return_inverse=True)
    logits = base.model(
        inputs_embeds=base.embed(packed.ids, rows),
        position_ids=packed.positions,
        attention_mask=packed.mask,
        past_key_values=past,
        use_cache=past is not None,
        logits_to_keep=columns,
    ).logits
    found = logits[row, which].float().log_softmax(-1).gather(1, following[:, None])[:, 0]
    total = torch.zeros(shape[0] * shape[1], device=base.device)
    return total.index_add(0, answer, found).view(shape)
