"""Which task each request is of: the four patterns that Punica (Chen et al., arXiv 2310.18547) measured adapters with.

Here: `distinct`, every request of a batch is of another task as long as there are tasks; `uniform`, every task is as
likely as any other; `skewed`, the i-th most popular task is asked in proportion to 1 / i^1.5; `identical`, one task
gets every request, whatever else is in memory.
"""

from typing import Literal, get_args

import numpy as np

from benchmarks.workload import SEED

Pattern = Literal["distinct", "uniform", "skewed", "identical"]
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)
EXPONENT = 1.5


def picks(pattern: Pattern, tasks: int, count: int) -> list[int]:
    """The tasks of `count` requests, each 0 .. `tasks` - 1; the same for the same arguments."""
    if pattern == "identical":
        return [0] * count
    if pattern == "distinct":
        return [index % tasks for index in range(count)]
    weights = np.arange(1, tasks + 1) ** (-EXPONENT if pattern == "skewed" else 0.0)
    drawn = np.random.default_rng([SEED, tasks]).choice(tasks, count, p=weights / weights.sum())
    return [int(task) for task in drawn]
