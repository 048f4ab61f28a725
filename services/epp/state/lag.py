"""How long news of one pool take: until Redis has them, until everybody can see them, and those of others until here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from services.epp.state.wire import Batch

REMEMBERED = 1_000
"""Batches that are looked for; more are on their way only while nothing is read."""
GAIN = 0.1


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
        """From the first news of a batch until it can be read, on average lately."""
        self.applied = applied
        """To be told the age of others' news."""
        self._published = published
        self._visible = visible
        self._sent: OrderedDict[int, float] = OrderedDict()

    def sending(self, batch: Batch, now: float) -> None:
        """Note that `batch` is on its way: it may be read before Redis' answer is."""
        oldest = now - max((pick.age_ms for pick in batch.picks), default=0) / 1000
        self._sent[batch.seq] = oldest
        if len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)

    def sent(self, batch: Batch, began: float, now: float) -> None:
        """Note that Redis has `batch`, which was sent at `began`."""
        self._published(now - began + max((pick.age_ms for pick in batch.picks), default=0) / 1000)

    def seen(self, seq: int, now: float) -> None:
        """Note that our own batch was read, as others read it."""
        began = self._sent.pop(seq, None)
        if began is not None:
            self._visible(now - began)
            self.seconds += GAIN * (now - began - self.seconds)
