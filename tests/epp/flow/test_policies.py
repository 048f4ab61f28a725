"""Orders within a flow, and turns between flows."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from services.epp.flow.policies import (
    EarliestDeadline,
    Fairness,
    FirstCome,
    GlobalStrict,
    Item,
    Ordering,
    RoundRobin,
    SloDeadline,
    Turns,
    WeightedTokens,
)


def item(
    number: int, flow: str = "a", *, tokens: int = 1, deadline: float = math.inf, target: float = math.inf
):
    return Item(number, flow=flow, tokens=tokens, arrived=float(number), deadline=deadline, target=target)


def band(fairness: Fairness, *items: Item, ordering: Ordering | None = None) -> Turns:
    turns = fairness.turns(ordering or FirstCome())
    for one in items:
        turns.add(one)
    return turns


def serve(turns: Turns, number: int) -> list[Item]:
    order = []
    for _ in range(number):
        turns.remove(first := turns.first(), served=True)
        order.append(first)
    return order


@pytest.mark.parametrize("fairness", [GlobalStrict(), RoundRobin(), WeightedTokens()])
@pytest.mark.parametrize(
    ("ordering", "expected"),
    [
        (FirstCome(), [1, 2, 3]),
        (EarliestDeadline(), [2, 1, 3]),
        (SloDeadline(), [3, 1, 2]),
    ],
)
def test_the_order_within_a_flow(fairness, ordering, expected):
    """By arrival, by the end of the wait, by the first token's time; ties by arrival."""
    items = item(1, deadline=20.0), item(2, deadline=10.0), item(3, deadline=20.0, target=1.0)
    turns = band(fairness, *items, ordering=ordering)
    assert [one.id for one in serve(turns, 3)] == expected


def test_round_robin_gives_each_flow_one_turn():
    """However many requests one of them has."""
    turns = band(RoundRobin(), *(item(n) for n in range(4)), item(10, "b"), item(11, "b"), item(20, "c"))
    assert [one.flow for one in serve(turns, 7)] == ["a", "b", "c", "a", "b", "a", "a"]


def test_leaving_is_no_turn():
    """A flow whose first request left is still next."""
    turns = band(RoundRobin(), first := item(1), item(2), item(3, "b"))
    turns.remove(first, served=False)
    assert [one.id for one in serve(turns, 2)] == [2, 3]


def test_tokens_are_shared_and_not_requests():
    """A flow of long requests gets fewer of them."""
    items = [item(n, tokens=300) for n in range(100)] + [item(100 + n, "b", tokens=100) for n in range(100)]
    turns = band(WeightedTokens(), *items)
    spent: Counter[str] = Counter()
    for one in serve(turns, 80):
        spent[one.flow] += one.tokens
    assert spent["a"] == pytest.approx(spent["b"], abs=300)


def test_a_weight_is_a_share():
    """Three to one."""
    items = [item(n, flow, tokens=10) for n, flow in enumerate("ab" * 100)]
    turns = band(WeightedTokens({"a": 3.0}), *items)
    assert Counter(one.flow for one in serve(turns, 80)) == {"a": 60, "b": 20}


def test_a_silent_flow_saves_up_no_claim():
    """Who comes late shares from then on."""
    turns = band(WeightedTokens(), *(item(n, tokens=10) for n in range(100)))
    serve(turns, 50)
    for number in range(50):
        turns.add(item(1000 + number, "b", tokens=10))
    assert Counter(one.flow for one in serve(turns, 40)) == {"a": 20, "b": 20}


def test_leaving_and_coming_back_gains_nothing():
    """A flow with one request at a time pays for each."""
    turns = band(WeightedTokens(), *(item(n, "b", tokens=10) for n in range(100)))
    order: Counter[str] = Counter()
    waits = False
    for number in range(1000, 1060):
        if not waits:
            turns.add(item(number, "a", tokens=10))
        flow = serve(turns, 1)[0].flow
        waits = flow != "a"
        order[flow] += 1
    assert order == {"a": 30, "b": 30}


def test_a_weight_must_be_above_0():
    """Else a flow would never be served."""
    with pytest.raises(ValueError, match="above 0"):
        WeightedTokens({"a": 0.0})
