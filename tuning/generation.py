"""Greedy answers of a frozen base behind a soft prompt of any kind: one padded batch, keys and values kept.

Rows that have ended leave the batch. Knows ids; no text and no metrics.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tuning.base import FrozenBase
from tuning.crowd import Member, gather, padded
from tuning.scene import PADDING, PROMPT, Past, Scene
from tuning.soft import Soft


@torch.no_grad()
def generate(
    base: FrozenBase, soft: Soft, prompts: Sequence[Sequence[int]], max_new_tokens: int, head: Sequence[int] = ()
) -> list[list[int]]:
    """For each prompt the most likely next ids, up to an end, which is left out, or to the base's context.

    `head` begins every prompt.
    """
    crowd = gather(base, [Member(soft, tuple(head))])
    ids = padded([prompt[len(head) :] for prompt in prompts], 0, base.device)
    lengths = torch.tensor([len(prompt) - len(head) for prompt in prompts], device=base.device)
    within = torch.arange(ids.shape[1], device=base.device)
    held = within[None] < lengths[:, None]
    positions = (within + crowd.before(0)).expand(len(prompts), -1)
    owner = torch.zeros(len(prompts), dtype=torch.int64, device=base.device)
    scene = crowd.scene(positions, owner, torch.where(held, PROMPT, PADDING))
    scene.recorded = {}
    rows = torch.arange(len(prompts), device=base.device)
    logits = base.logits(scene, base.embed(ids, crowd.rows), rows, lengths - 1)
    past = _grown(scene, positions, held)
    at = lengths + crowd.before(0)
    found: list[list[int]] = [[] for _ in prompts]
    alive = list(range(len(prompts)))
    for step in range(max_new_tokens):
        following = logits.argmax(-1)
        on = [place for place, token in enumerate(following.tolist()) if token not in base.ends]
        for place in on:
            found[alive[place]].append(int(following[place]))
        on = [place for place in on if int(at[place]) < base.context]
        alive = [alive[place] for place in on]
        if not alive or step == max_new_tokens - 1:
            break
        if len(on) < len(following):
            kept = torch.tensor(on, device=base.device)
            past, at, following = past.chosen(kept), at[kept], following[kept]
        scene = Scene(at[:, None], owner[: len(on)], None, past, crowd.side, crowd.changes, recorded={})
        embedded = base.embed(following[:, None], crowd.rows)
        logits = base.logits(scene, embedded, rows[: len(on)], torch.zeros_like(rows[: len(on)]))
        past = _grown(scene, at[:, None], torch.ones_like(at[:, None], dtype=torch.bool))
        at = at + 1
    return found


def _grown(scene: Scene, positions: Tensor, held: Tensor) -> Past:
    """What was before the rows and what they were, as what stands before the next ids."""
    recorded = scene.recorded or {}
    read = Past([recorded[layer] for layer in sorted(recorded)], positions, held)
    return read if scene.past is None else scene.past.then(read)
