"""What other replicas have in flight: their totals by server, and their requests one by one.

The totals count. A replica tells them whole, so nothing can drift, and one that left is taken off exactly. Its single
requests are known besides, so that a conversation's next turn is recognised wherever its last one was picked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from services.epp.load import Load


@dataclass(slots=True)
class Foreign:
    """A request that another replica picked. `picked_at` is a reading of our clock."""

    id: str
    slot: int
    picked_at: float
    prompt_tokens: int
    output_tokens: int
    context_tokens: int
    tail: int
    """The last block of its prompt; 0 without one."""
    model: str = ""
    ahead: float = 0.0
    """Prompt tokens that its server had to compute until the end of this prompt, when we heard of it."""
    mark: float = 0.0
    """All prompt tokens that its server was ever sent, up to the end of this prompt."""
    answered: bool = False
    """Not counted here any more, though its replica still does."""


class Others:
    """Keeps `loads`, the totals of everybody by slot, in step with what the others tell."""

    def __init__(self, loads: list[Load]) -> None:
        self._loads = loads
        self._vectors: dict[str, dict[int, Load]] = {}
        self.requests: dict[str, Foreign] = {}
        """By decision id, in the order in which they were told."""

    def told(self, owner: str, slot: int, load: Load) -> None:
        """Count `load` as what `owner` has in flight at `slot`, in place of what it told before."""
        vector = self._vectors.setdefault(owner, {})
        before = vector.get(slot)
        if before is not None:
            self._loads[slot].take(before)
        self._loads[slot].put(load)
        vector[slot] = load

    def only(self, owner: str, loads: Mapping[int, Load]) -> None:
        """Count `loads` as all that `owner` has in flight."""
        for slot in self._vectors.get(owner, {}).keys() - loads.keys():
            self.told(owner, slot, Load())
        for slot, load in loads.items():
            self.told(owner, slot, load)

    def left(self, owner: str) -> list[int]:
        """Count nothing of `owner` any more; return the slots where that made a difference."""
        vector = self._vectors.pop(owner, {})
        for slot, load in vector.items():
            self._loads[slot].take(load)
        return list(vector)

    def of(self, owner: str) -> Iterator[Foreign]:
        """Yield the requests of `owner`."""
        prefix = f"{owner}-"
        return (one for one in self.requests.values() if one.id.startswith(prefix))

    def answered(self, request: Foreign) -> None:
        """Count `request` no more, until `forget` hears from its replica that it does not count it either."""
        request.answered = True
        self._share(request, -1)

    def forget(self, decision: str) -> Foreign | None:
        """Drop a request whose replica does not count it any more; None when it is not known."""
        request = self.requests.pop(decision, None)
        if request is not None and request.answered:
            self._share(request, 1)
        return request

    def vacate(self, slot: int) -> None:
        """Drop the totals at a server that left the pool. Its requests must have been dropped before."""
        for vector in self._vectors.values():
            vector.pop(slot, None)

    def oldest(self, slot: int) -> float:
        """Return when the oldest request at `slot` was picked; infinity without one."""
        return min(
            (one.picked_at for one in self.requests.values() if one.slot == slot and not one.answered),
            default=float("inf"),
        )

    def _share(self, request: Foreign, sign: int) -> None:
        load = self._loads[request.slot]
        load.requests += sign
        load.prompt_tokens += sign * request.prompt_tokens
        load.output_tokens += sign * request.output_tokens
        load.context_tokens += sign * request.context_tokens
        load.finished -= sign  # its server's metrics may still show it
