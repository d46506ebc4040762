"""The engine's bounds, each of which holds by construction, and the counters that show what it did."""

import math
from dataclasses import dataclass

from server.engine.slots import GRAIN, rounded


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """`max_total_tokens`: positions of one sequence, soft prompt and answer included (None: the base's context).

    `max_batch`: sequences that run at once, as long as `kv_budget` bytes hold what all of them may come to need.
    `max_waiting` requests and `max_waiting_tokens` (None: what fills the cache some times) may wait, each for at most
    `queue_seconds`.
    `max_batch_tokens`: ids of one forward pass. `prompt_budget`: bytes of resident soft prompts. `text_budget`: bytes
    of beginnings that requests of one soft prompt have in common. `threads`: None leaves torch's own number.
    `deterministic`: no neighbour changes a bit of a request's logits; passes then have a fixed number of tokens, enough
    for all decodes and one grain of a prefill, whatever `max_batch_tokens` says.
    """

    max_total_tokens: int | None = None
    max_batch: int = 64
    max_batch_tokens: int = 512
    max_waiting: int = 1024
    max_waiting_tokens: int | None = None
    queue_seconds: float = math.inf
    kv_budget: int = 4 * 2**30
    prompt_budget: int = 512 * 2**20
    text_budget: int = 256 * 2**20
    threads: int | None = None
    deterministic: bool = False

    @property
    def tile(self) -> int | None:
        """Tokens of every pass in deterministic mode."""
        return rounded(self.max_batch) + GRAIN if self.deterministic else None


@dataclass(slots=True)
class Counters:
    """Since the start: `decode_forwards` fed generated ids only, `prefill_forwards` held a prefill chunk.

    `ids_fed` counts text ids of requests, `rows_fed` pseudo-tokens, `head_ids_fed` everything fed once for a task's
    shared head. `most_digests`: the most soft prompts that one forward pass ever held.
    """

    decode_forwards: int = 0
    prefill_forwards: int = 0
    ids_fed: int = 0
    rows_fed: int = 0
    head_ids_fed: int = 0
    generated: int = 0
    finished: int = 0
    failed: int = 0
    most_digests: int = 0

    @property
    def forwards(self) -> int:
        """Passes of the base."""
        return self.prefill_forwards + self.decode_forwards


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The engine at one moment: what runs, what waits, what is in memory (bytes)."""

    running: int
    waiting: int
    waiting_tokens: int
    slots: int
    resident_prompts: int
    resident_bytes: int
    kv_bytes: int
    text_bytes: int
    counters: Counters
