"""Who goes next within a priority band: the order within a flow, and the turns of the flows."""

from __future__ import annotations

import bisect
import itertools
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

DEFAULT_FLOW = "default-flow"
"""The flow of requests without a fairness id, as in the reference."""
REMEMBERED = 4096
"""Flows without a waiting request whose share is remembered: one that comes and goes gains nothing by leaving."""


@dataclass(frozen=True, slots=True)
class Item:
    """One request that waits. Times are readings of one clock, in seconds."""

    id: int
    """Unique, and growing in the order of arrival."""
    priority: int = 0
    flow: str = DEFAULT_FLOW
    tokens: int = 1
    """What it is expected to cost: prompt and answer."""
    bytes: int = 0
    arrived: float = 0.0
    deadline: float = math.inf
    """When it will no longer wait."""
    target: float = math.inf
    """When its first token should come, if the client said so."""


@runtime_checkable
class Ordering(Protocol):
    """Orders the requests of a flow."""

    def rank(self, item: Item) -> float:
        """Return what is smallest for the request that goes first; ties go by arrival."""


@dataclass(frozen=True, slots=True)
class FirstCome:
    """First come, first served: the reference's `fcfs-ordering-policy`."""

    def rank(self, item: Item) -> float:
        """Return the arrival."""
        return item.arrived


@dataclass(frozen=True, slots=True)
class EarliestDeadline:
    """Whoever gives up first goes first: the reference's `edf-ordering-policy`."""

    def rank(self, item: Item) -> float:
        """Return the end of its time to live."""
        return item.deadline


@dataclass(frozen=True, slots=True)
class SloDeadline:
    """Whose time to first token is due first goes first, then those without one: `slo-deadline-ordering-policy`."""

    def rank(self, item: Item) -> float:
        """Return when its first token is due."""
        return item.target


class Line:
    """Requests of one flow in their order. Insertion and removal shift a list: microseconds for thousands."""

    __slots__ = ("_items", "_ordering")

    def __init__(self, ordering: Ordering) -> None:
        self._ordering = ordering
        self._items: list[tuple[float, int, Item]] = []

    def __len__(self) -> int:
        return len(self._items)

    @property
    def first(self) -> Item:
        """The request that goes first."""
        return self._items[0][2]

    def add(self, item: Item) -> None:
        """Put `item` in its place."""
        bisect.insort(self._items, (self._ordering.rank(item), item.id, item))

    def remove(self, item: Item) -> None:
        """Take `item` out; it must be in."""
        place = bisect.bisect_left(self._items, (self._ordering.rank(item), item.id))
        del self._items[place]


class Turns(Protocol):
    """The waiting requests of one band."""

    def add(self, item: Item) -> None:
        """Put a request in."""

    def remove(self, item: Item, *, served: bool) -> None:
        """Take a request out; `served`: it was its flow's turn, and not that it left."""

    def first(self) -> Item:
        """Return the request that goes next; there must be one."""

    def elsewhere(self, flow: str, tokens: int) -> None:
        """Note that a request of `flow` had its turn at another gate of the same pool."""


@runtime_checkable
class Fairness(Protocol):
    """Gives the flows of a band their turns."""

    def turns(self, ordering: Ordering) -> Turns:
        """Return an empty band."""


@dataclass(frozen=True, slots=True)
class GlobalStrict:
    """No flows: one line for all, the reference's default `global-strict-fairness-policy`."""

    def turns(self, ordering: Ordering) -> Turns:
        """Return an empty band."""
        return _OneLine(ordering)


@dataclass(frozen=True, slots=True)
class RoundRobin:
    """One request of each flow in turn: the reference's `round-robin-fairness-policy`."""

    def turns(self, ordering: Ordering) -> Turns:
        """Return an empty band."""
        return _RoundRobin(ordering)


@dataclass(frozen=True, slots=True)
class WeightedTokens:
    """Flows share the tokens, not the requests, by weight: start-time fair queueing (Goyal, Vin, Cheng 1996)."""

    weights: Mapping[str, float] = field(default_factory=dict)
    """By fairness id; 1 for the others."""

    def __post_init__(self) -> None:
        if any(weight <= 0 for weight in self.weights.values()):
            raise ValueError("weights: each must be above 0")

    def turns(self, ordering: Ordering) -> Turns:
        """Return an empty band."""
        return _WeightedTokens(ordering, self.weights)


class _OneLine:
    def __init__(self, ordering: Ordering) -> None:
        self._line = Line(ordering)

    def add(self, item: Item) -> None:
        self._line.add(item)

    def remove(self, item: Item, *, served: bool) -> None:  # noqa: ARG002 - nobody has turns here
        self._line.remove(item)

    def first(self) -> Item:
        return self._line.first

    def elsewhere(self, flow: str, tokens: int) -> None:
        """Do nothing: nobody has turns here."""


class _RoundRobin:
    """Flows in the order of their next turn."""

    def __init__(self, ordering: Ordering) -> None:
        self._ordering = ordering
        self._lines: OrderedDict[str, Line] = OrderedDict()

    def add(self, item: Item) -> None:
        line = self._lines.get(item.flow)
        if line is None:
            line = self._lines[item.flow] = Line(self._ordering)
        line.add(item)

    def remove(self, item: Item, *, served: bool) -> None:
        line = self._lines[item.flow]
        line.remove(item)
        if not line:
            del self._lines[item.flow]
        elif served:
            self._lines.move_to_end(item.flow)

    def first(self) -> Item:
        return next(iter(self._lines.values())).first

    def elsewhere(self, flow: str, tokens: int) -> None:  # noqa: ARG002 - a turn is a turn
        if flow in self._lines:
            self._lines.move_to_end(flow)


class _WeightedTokens:
    """Each flow has a tag, the virtual time at which its next request starts; the least tag goes next.

    Serving t tokens of a flow of weight w moves its tag by t / w. The band's time is the tag of what was served last;
    a flow that begins to wait starts no earlier than that, so that nobody saves up a claim by being silent.
    """

    def __init__(self, ordering: Ordering, weights: Mapping[str, float]) -> None:
        self._ordering = ordering
        self._weights = weights
        self._lines: dict[str, tuple[float, int, Line]] = {}
        self._order: list[tuple[float, int, str]] = []
        self._left: OrderedDict[str, float] = OrderedDict()
        self._count = itertools.count()
        self._now = 0.0

    def add(self, item: Item) -> None:
        if item.flow not in self._lines:
            self._begin(item.flow, max(self._now, self._left.pop(item.flow, 0.0)), Line(self._ordering))
        self._lines[item.flow][2].add(item)

    def remove(self, item: Item, *, served: bool) -> None:
        tag, number, line = self._lines[item.flow]
        line.remove(item)
        if served:
            self._now = max(self._now, tag)
            tag += item.tokens / self._weights.get(item.flow, 1.0)
        elif line:
            return
        del self._order[bisect.bisect_left(self._order, (self._lines.pop(item.flow)[0], number))]
        if line:
            self._begin(item.flow, tag, line)
        else:
            self._remember(item.flow, tag)

    def first(self) -> Item:
        return self._lines[self._order[0][2]][2].first

    def elsewhere(self, flow: str, tokens: int) -> None:
        cost = tokens / self._weights.get(flow, 1.0)
        if flow not in self._lines:
            self._remember(flow, max(self._now, self._left.pop(flow, 0.0)) + cost)
            return
        tag, number, line = self._lines.pop(flow)
        del self._order[bisect.bisect_left(self._order, (tag, number))]
        self._now = max(self._now, tag)
        self._begin(flow, tag + cost, line)

    def _begin(self, flow: str, tag: float, line: Line) -> None:
        number = next(self._count)
        self._lines[flow] = (tag, number, line)
        bisect.insort(self._order, (tag, number, flow))

    def _remember(self, flow: str, tag: float) -> None:
        if tag > self._now:
            self._left[flow] = tag
        if len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
