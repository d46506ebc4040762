"""How many bytes of bodies are held at once, so that many large ones do not fill the memory, and whose turn it is.

Knows sizes alone.
"""

from anyio import CapacityLimiter

from server.errors import Unavailable

HELD = "softprompt.held"
FREE_BYTES = 64 * 2**10
"""Of each body, counted for nobody: who uploads a lot must not keep others from asking."""


class Bodies:
    """Of one server; a body that is larger than `budget` is taken while there is no other.

    `turn`: large ones are decoded one after the other. Python's decoder keeps the lock of all threads, a tenth of a
    second for some megabytes: of several at once one would take it after the other, and the loop wait for them all.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.held = 0
        self.turn = CapacityLimiter(1)

    def hold(self) -> "Held":
        return Held(self)


class Held:
    """By one request, until it has been answered."""

    def __init__(self, bodies: Bodies) -> None:
        self.turn = bodies.turn
        self._bodies = bodies
        self._bytes = 0

    def grow(self, size: int) -> None:
        """The body has `size` bytes now. Raises Unavailable where all together would be too many.

        What has come counts, not what was announced: a promise costs whoever makes it nothing.
        """
        more = max(0, size - FREE_BYTES) - self._bytes
        others = self._bodies.held - self._bytes
        if more > 0 and others and self._bodies.held + more > self._bodies.budget:
            raise Unavailable("bodies_full", "too much is being uploaded at once")
        self._bytes += more
        self._bodies.held += more

    def release(self) -> None:
        self._bodies.held -= self._bytes
        self._bytes = 0
