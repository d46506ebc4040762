"""Log-likelihoods of answers: one forward pass for prompts with all their answers, of many soft prompts at once.

What all prompts of a soft prompt begin with runs once (`crowd`). A row of the batch holds the rest of one prompt and,
behind it, the answers side by side as a tree: each sees the prompt and itself. An answer's last id is never fed, so
one-token labels cost nothing. Padding stands right of what it could disturb. Knows nothing of objectives or optimisers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tuning.base import FrozenBase
from tuning.crowd import Crowd, Member, gather, padded
from tuning.encoding import Encoded
from tuning.scene import PADDING, PROMPT
from tuning.soft import Soft


@dataclass(frozen=True, slots=True)
class Pack:
    """Tensors of one batch, rows [B, n]; `branches` None where plain causal attention is right.

    `picks` [N, 4]: batch row, position whose logits count, id that should follow, answer it belongs to.
    `shapes`: (member, rows, answers of each), in the order of the rows.
    """

    ids: Tensor
    offsets: Tensor
    owner: Tensor
    branches: Tensor | None
    picks: Tensor
    shapes: tuple[tuple[int, int, int], ...]


def pack(crowd: Crowd, batch: Mapping[int, Sequence[Encoded]], heads: Sequence[int], device: torch.device) -> Pack:
    """Prompts less the `heads[member]` ids that stand before them already, padded right to the widest."""
    fed: list[list[int]] = []
    offsets: list[list[int]] = []
    branches: list[list[int]] = []
    owners: list[int] = []
    picks: list[tuple[int, int, int, int]] = []
    answers = 0
    for member, examples in batch.items():
        for one in examples:
            ids = crowd.ids(member, one.prompt[heads[member] :])
            end, row = len(ids), len(fed)
            offset, branch = list(range(end)), [PROMPT] * end
            for which, answer in enumerate(one.answers):
                picks.append((row, end - 1, answer[0], answers))
                for place, following in enumerate(answer[1:]):
                    picks.append((row, len(ids), following, answers))
                    ids.append(answer[place])
                    offset.append(end + place)
                    branch.append(which)
                answers += 1
            owners.append(member)
            for kept, more in ((fed, ids), (offsets, offset), (branches, branch)):
                kept.append(more)
    beside = any(sum(len(a) > 1 for a in one.answers) > 1 for examples in batch.values() for one in examples)
    return Pack(
        ids=padded(fed, 0, device),
        offsets=padded(offsets, 0, device),
        owner=torch.tensor(owners, device=device),
        branches=padded(branches, PADDING, device) if beside else None,
        picks=torch.tensor(picks, device=device),
        shapes=tuple((member, len(some), len(some[0].answers)) for member, some in batch.items() if some),
    )


def log_likelihoods(
    base: FrozenBase, crowd: Crowd, batch: Mapping[int, Sequence[Encoded]], heads: Sequence[int]
) -> dict[int, Tensor]:
    """By member [rows, answers]: the sum of natural log-probabilities of each answer's ids.

    `heads[member]` leading ids of its prompts are in the crowd's past. All of a member have equally many answers.
    """
    packed = pack(crowd, batch, heads, base.device)
    before = torch.tensor([crowd.before(member) for member in range(len(crowd.first))], device=base.device)
    positions = packed.offsets + before[packed.owner][:, None]
    scene = crowd.scene(positions, packed.owner, packed.branches)
    row, column, following, answer = packed.picks.unbind(1)
    logits = base.logits(scene, base.embed(packed.ids, crowd.rows), row, column)
    found = logits.float().log_softmax(-1).gather(1, following[:, None])[:, 0]
    total = torch.zeros(int(answer[-1]) + 1, device=base.device).index_add(0, answer, found)
    parts = total.split([rows * answers for _, rows, answers in packed.shapes])
    return {
        member: part.view(rows, answers) for (member, rows, answers), part in zip(packed.shapes, parts, strict=True)
    }


def chunks(
    batch: Mapping[int, Sequence[Encoded]], heads: Sequence[int], positions: int
) -> Iterator[dict[int, list[int]]]:
    """The batch in passes of about so many padded positions, rows of like width together: row numbers by member."""
    rows = sorted(
        (
            (one.width - heads[member], member, index)
            for member, some in batch.items()
            for index, one in enumerate(some)
        ),
        reverse=True,
    )
    start = 0
    while start < len(rows):
        end = start + max(1, positions // max(rows[start][0], 1))
        found: dict[int, list[int]] = {}
        for _, member, index in sorted(rows[start:end], key=lambda row: row[1:]):
            found.setdefault(member, []).append(index)
        yield found
        start = end


def of_one(base: FrozenBase, soft: Soft, batch: Sequence[Encoded], head: Sequence[int]) -> Tensor:
    """[rows, answers] behind one soft prompt; `head` begins every prompt."""
    crowd = gather(base, [Member(soft, tuple(head))])
    return log_likelihoods(base, crowd, {0: batch}, [len(head)])[0]
