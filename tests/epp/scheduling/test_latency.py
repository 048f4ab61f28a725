"""Latency predicted per server, and what the filter and the scorer make of it."""

from __future__ import annotations

import pytest

from services.epp.cost.pace import Pace
from services.epp.inflight import Load
from services.epp.scheduling.filters.slo_headroom import SloHeadroomTier
from services.epp.scheduling.interfaces import Situation
from services.epp.scheduling.latency import headrooms, objectives
from services.epp.scheduling.scorers.latency import Latency
from services.extproc.events import Headers
from services.openai.digest import Digest
from tests.epp.scheduling.world import NOW, server, slots

SERVERS = [server(0), server(1), server(2)]


def asking(*paces: Pace, ttft: str = "", tpot: str = "", loads: tuple[Load, ...] = (), **more) -> Situation:
    """Ask with a prompt of 1,000 tokens; servers without a load have one request each, so that none is idle."""
    headers = [(name, value) for name, value in (("x-slo-ttft-ms", ttft), ("x-slo-tpot-ms", tpot)) if value]
    all_loads = [*loads, *(Load(requests=1) for _ in range(3 - len(loads)))]
    digest = Digest("m", prompt_bytes=4000, blocks=tuple(range(62)))
    return Situation(digest, NOW, all_loads, paces=paces, headers=Headers(headers), **more)


def pace(first: float = 0.0, each: float = 0.0, sequence: float = 0.0, busy_until: float = 0.0) -> Pace:
    """Make a server by its time to the first token and per token."""
    return Pace(first=first, prefill=0.0, step=each, sequence=sequence, busy_until=busy_until)


@pytest.mark.parametrize(
    ("made", "load", "matched", "expected"),
    [
        (Pace(first=0.1, prefill=0.001, step=0.0, sequence=0.0), Load(), 0, (1.1, 0.0)),
        (
            Pace(first=0.1, prefill=0.001, step=0.0, sequence=0.0),
            Load(),
            50,
            (0.3, 0.0),
        ),  # 50 blocks: 800 tokens
        (pace(0.1, busy_until=NOW + 2), Load(), 0, (2.1, 0.0)),
        (pace(0.1, busy_until=NOW - 2), Load(), 0, (0.1, 0.0)),
        (pace(0.0, 0.01, sequence=0.002), Load(requests=5, context_tokens=100_000), 0, (0.0, 0.0239)),
    ],
)
def test_predictions_follow_the_cost_model(made, load, matched, expected):
    """Wait, first byte and uncached prompt; step and batch."""
    request = asking(made, loads=(load,), matches={0: matched} if matched else {})
    (found,) = headrooms(request, SERVERS[:1])

    assert (-found.ttft, -found.tpot) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("250", 0.25), ("0", None), ("-5", None), ("soon", None), ("nan", None), ("1e300", None)],
)
def test_objectives_that_make_no_sense_are_not_given(text, expected):
    """A header can say anything."""
    assert objectives(asking(ttft=text)).ttft == expected


def test_the_newer_names_are_read_too():
    """`x-llm-d-slo-…`."""
    request = Situation(Digest("m"), NOW, headers=Headers([("x-llm-d-slo-tpot-ms", "20")]))

    assert objectives(request).tpot == 0.02


FAST, SLOW = pace(0.1, 0.01), pace(0.9, 0.01)


@pytest.mark.parametrize(
    ("asked", "chance", "expected"),
    [
        ({"ttft": "500"}, 0.5, [0, 2]),
        ({"ttft": "500"}, 0.009, [1]),  # explores
        ({"ttft": "500", "tpot": "5"}, 0.5, [0, 1, 2]),  # nobody meets both
        ({"ttft": "2000"}, 0.009, [0, 1, 2]),  # all do
        ({}, 0.009, [0, 1, 2]),
        ({"tpot": "20"}, 0.5, [0, 1, 2]),
    ],
)
def test_the_filter_keeps_those_that_will_be_in_time(asked, chance, expected):
    """An objective that is not given is met."""
    request = asking(FAST, SLOW, FAST, chance=chance, **asked)

    assert slots(SloHeadroomTier().keep(request, SERVERS)) == expected


def test_without_objectives_the_fastest_is_best():
    """Both times count, each scaled among the candidates."""
    request = asking(pace(0.1, 0.03), pace(0.3, 0.01), pace(0.2, 0.02))

    assert Latency().score(request, SERVERS) == pytest.approx([0.8, 0.2, 0.5])


def test_of_those_in_time_the_one_with_the_least_to_spare_is_best():
    """So that the fast ones stay free for those who need them; `most` is the other way round."""
    request = asking(pace(0.1), pace(0.4), pace(0.6), ttft="500")

    assert Latency().score(request, SERVERS) == [0.0, 1.0, 0.0]
    assert Latency(headroom_selection_strategy="most").score(request, SERVERS) == [1.0, 0.0, 0.0]


def test_when_all_are_late_an_idle_one_is_best():
    """It can only get better there."""
    request = asking(pace(0.8), pace(0.9), pace(0.7), ttft="500", loads=(Load(requests=1), Load()))

    assert Latency().score(request, SERVERS) == [0.0, 0.5, 0.0]


def test_a_late_first_token_is_worse_than_slow_ones():
    """Then the smallest deficit counts; those in the worse class get nothing."""
    late, slow, slower = pace(0.8, 0.01), pace(0.1, 0.03), pace(0.1, 0.04)
    request = asking(late, slower, slow, ttft="500", tpot="20")

    assert Latency().score(request, SERVERS) == [0.0, 0.0, 1.0]


def test_equal_servers_score_equally():
    """No division by zero."""
    assert Latency().score(asking(FAST, FAST, FAST, ttft="500"), SERVERS) == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("wrong", [{"ttft_weight": -1.0}, {"ttft_weight": 0.0, "tpot_weight": 0.0}])
def test_wrong_weights_are_refused(wrong):
    """With the names of the file."""
    with pytest.raises(ValueError, match="ttftWeight and tpotWeight"):
        Latency(**wrong)
