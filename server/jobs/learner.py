"""The server's base as the tuner takes it: the same weights, a second way through them.

Knows the engine's base and its view for learning; no jobs.
"""

from server.engine.learning import view
from server.engine.model import BaseModel
from server.tokenizer import Tokenizer
from tuning.base import POSITIONS, FrozenBase

PASS_FLOPS = 2e11
"""About what one pass may cost, forward and backward: a request that comes in the middle waits for the rest of it."""
FEWEST = 128


def learner(base: BaseModel, tokenizer: Tokenizer) -> FrozenBase:
    """To be called before an engine is built on `base`. Raises ValueError, saying why nothing can be learnt on it."""
    found = FrozenBase(view(base), tokenizer, base.base, sorted(base.eos_ids), base.parameters)
    found.positions = min(POSITIONS, max(FEWEST, int(PASS_FLOPS / (6 * found.parameters))))
    return found
