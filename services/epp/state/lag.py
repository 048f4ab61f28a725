"""How long news of one pool take: until Redis has them, and until other replicas have taken them in."""

from __future__ import annotations

import math
from collections.abc import Callable

from services.epp.state.wire import Batch

GAIN = 0.1
LOOSER = 1.02
"""By so much with each answer, a slower one is believed again: clocks drift, and a minute is some 3,000 answers."""


class Offset:
    """By how much the clock of Redis is ahead of ours, from the answers that came quickest. Times are in seconds."""

    def __init__(self) -> None:
        self.known = False
        self._ahead = 0.0
        self._took = math.inf

    def hear(self, theirs: float, asked: float, now: float) -> None:
        """Note that Redis' clock said `theirs` between `asked` and `now` by ours."""
        took = now - asked
        if took <= self._took or abs(theirs - self._ahead - now) > took + 1.0:
            self.known, self._took, self._ahead = True, took, theirs - (asked + now) / 2
        else:
            self._took *= LOOSER

    def guess(self, theirs: float, now: float) -> None:
        """Note that `theirs` is past there, for want of anything better."""
        self.known, self._ahead = True, theirs - now

    def age(self, theirs: float, now: float) -> float:
        """Return how long ago it was `theirs` in Redis."""
        return max(0.0, now + self._ahead - theirs)


class Lag:
    """`published`, `visible` and `applied` hear every figure, in seconds."""

    def __init__(
        self,
        *,
        published: Callable[[float], None],
        visible: Callable[[float], None],
        applied: Callable[[float], None],
    ) -> None:
        self.seconds = 0.0
        """From another replica's pick until it is known here, on average lately."""
        self._published = published
        self._visible = visible
        self._applied = applied

    def sent(self, batch: Batch, began: float, now: float) -> None:
        """Note that Redis has `batch`, which was sent at `began`."""
        self._published(now - began + batch.waited)

    def heard(self, batch: Batch, age: float) -> None:
        """Note that a batch of another replica was taken in, `age` after Redis had it."""
        self._applied(age)
        if batch.picks:
            self._visible(age + batch.waited)
            self.seconds += GAIN * (age + batch.waited - self.seconds)
