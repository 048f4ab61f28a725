"""A request counts from its pick to its end: once, and never below zero."""

from __future__ import annotations

import random

import pytest

from services.epp.inflight import Entry, InFlight, Load
from tests.epp.world import Clock


def entry(name: str, clock: Clock, slot: int = 0) -> Entry:
    return Entry(name, slot, clock(), prompt_tokens=100, output_tokens=10)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def inflight(clock: Clock) -> InFlight:
    inflight = InFlight(clock=clock, lease=60)
    inflight.admit(1)
    return inflight


def test_a_pick_counts_at_once_and_its_end_takes_it_off(inflight, clock):
    """Requests, prompt and answer are all counted."""
    inflight.add(entry("a", clock))
    inflight.add(entry("b", clock))
    assert inflight.loads[0] == Load(requests=2, prompt_tokens=200, output_tokens=20, unseen=2)

    inflight.release("a")
    assert inflight.loads[0] == Load(requests=1, prompt_tokens=100, output_tokens=10, unseen=1)
    assert inflight.loads[1] == Load()


def test_only_the_first_end_of_a_request_counts(inflight, clock):
    """Response phase and access log may both report it."""
    inflight.add(entry("a", clock))

    assert inflight.release("a") is not None
    assert inflight.release("a") is None
    assert inflight.release("never") is None
    assert inflight.loads[0].requests == 0


def test_a_lost_end_expires_with_its_lease(inflight, clock):
    """Nothing counts for ever."""
    inflight.add(entry("old", clock))
    clock.now += 30
    inflight.add(entry("young", clock))
    clock.now += 30

    assert [expired.id for expired in inflight.expire()] == ["old"]
    assert inflight.loads[0].requests == 1
    assert inflight.release("old") is None


def test_load_moves_to_the_server_that_served(inflight, clock):
    """A fallback is counted where it runs, with what is uncached there."""
    inflight.add(entry("a", clock))
    before = inflight.move("a", 1, prompt_tokens=40)

    assert before is not None
    assert before.slot == 0
    assert inflight.loads[0] == Load()
    assert inflight.loads[1] == Load(requests=1, prompt_tokens=40, output_tokens=10, unseen=1)
    assert inflight.move("a", 1, prompt_tokens=40) is None, "it is there already"
    assert inflight.move("never", 1, prompt_tokens=0) is None


def test_a_scrape_has_seen_what_was_picked_before_it_began(inflight, clock):
    """Older requests are in the server's own figures, younger ones are not."""
    inflight.add(entry("before", clock))
    clock.now += 1
    began = clock()
    clock.now += 1
    inflight.add(entry("after", clock))
    inflight.scraped(0, began)
    assert inflight.loads[0].unseen == 1

    inflight.release("before")
    assert inflight.loads[0].finished == 1, "the server's last figures still hold it"
    inflight.release("after")
    assert inflight.loads[0].finished == 1, "they never held this one"
    inflight.scraped(0, clock())
    assert inflight.loads[0] == Load()


def test_a_server_that_left_takes_its_requests_along(inflight, clock):
    """Ends that come later find nothing, and the slot starts from zero."""
    inflight.add(entry("a", clock))
    inflight.add(entry("b", clock, slot=1))
    inflight.forget(0)

    assert inflight.loads[0] == Load()
    assert inflight.release("a") is None
    assert inflight.release("b") is not None
    assert len(inflight) == 0


@pytest.mark.parametrize("seed", range(5))
def test_totals_are_the_sum_of_what_is_in_flight_and_never_negative(seed):
    """Whatever the order of events."""
    rng, clock = random.Random(seed), Clock()
    inflight = InFlight(clock=clock, lease=50)
    known: dict[str, Entry] = {}
    inflight.admit(3)
    for number in range(1000):
        clock.now += rng.random()
        name = rng.choice([*known, "unknown"])
        match rng.randint(0, 5):
            case 0 | 1:
                fresh = Entry(str(number), rng.randint(0, 3), clock(), rng.randint(0, 99), rng.randint(0, 99))
                inflight.add(fresh)
                known[fresh.id] = fresh
            case 2:
                inflight.release(name)
                known.pop(name, None)
            case 3:
                inflight.move(name, rng.randint(0, 3), prompt_tokens=5)
                if (moved := inflight.get(name)) is not None:
                    known[name] = moved
            case 4:
                inflight.scraped(rng.randint(0, 3), clock() - rng.random())
            case _:
                for expired in inflight.expire():
                    del known[expired.id]
        for slot, load in enumerate(inflight.loads):
            here = [one for one in known.values() if one.slot == slot]
            assert load.requests == len(here)
            assert load.prompt_tokens == sum(one.prompt_tokens for one in here)
            assert load.output_tokens == sum(one.output_tokens for one in here)
            assert 0 <= load.unseen <= load.requests
            assert load.finished >= 0


def turn(name: str, blocks: tuple[int, ...], tokens: int) -> Entry:
    return Entry(name, 0, 0.0, tokens, 10, blocks=blocks, context_tokens=tokens)


def lone(*entries: Entry) -> InFlight:
    inflight = InFlight(clock=lambda: 0.0, lease=10)
    inflight.admit(0)
    for one in entries:
        inflight.add(one)
    return inflight


def test_a_turn_that_has_been_answered_counts_no_more():
    """Its end, when it is reported, changes nothing any more."""
    first = turn("first", (1, 2), 100)
    inflight = lone(first)

    assert inflight.before((1, 2), 150) == [first]
    inflight.answered(first)
    assert inflight.loads[0].requests == 0
    assert inflight.before((1, 2), 150) == [], "once"
    assert inflight.release("first") is not None
    assert inflight.loads[0] == Load()


@pytest.mark.parametrize(("ends", "tokens"), [((1, 3), 150), ((1, 2), 100), ((), 0)])
def test_what_does_not_go_on_is_another_request(ends, tokens):
    """One with the same beginning, one that is no longer, and one that continues nothing."""
    assert lone(turn("first", (1, 2), 100)).before(ends, tokens) == []


def test_siblings_are_not_turns():
    """Several that end in the same block wait for nobody."""
    inflight = lone(turn("a", (1, 2), 100), turn("b", (1, 2), 100))

    assert inflight.before((1, 2), 150) == []
    inflight.forget(0)
    assert inflight._tails == {}


def looked(inflight: InFlight, clock: Clock, *reported: int) -> list[str]:
    """Scrape server 0 again and again, a fifth of a second apart; return what was taken for lost."""
    lost = []
    for count in reported:
        clock.now += 0.2
        inflight.scraped(0, clock())
        lost += [entry.id for entry in inflight.reconcile(0, count)]
    return lost


def test_an_end_that_nobody_told_is_found_out():
    """The server has fewer than are counted, look after look: the oldest are gone."""
    clock = Clock()
    inflight = InFlight(clock=clock, lease=600.0)
    inflight.admit(0)
    for number in range(3):
        inflight.add(Entry(str(number), 0, clock(), prompt_tokens=1, output_tokens=1))
        clock.now += 1.0
    clock.now += 2.0
    assert looked(inflight, clock, 1, 1, 1, 1) == []
    assert looked(inflight, clock, 1) == ["0", "1"]
    assert (inflight.loads[0].requests, inflight.loads[0].finished) == (1, 0)


def test_what_comes_and_goes_is_not_taken_for_lost():
    """One look in which all are there is enough; so is a server that has others' requests too."""
    clock = Clock()
    inflight = InFlight(clock=clock, lease=600.0)
    inflight.admit(0)
    inflight.add(Entry("a", 0, clock(), prompt_tokens=1, output_tokens=1))
    clock.now += 10.0
    assert looked(inflight, clock, 0, 0, 1, 0, 0, 0, 0, 9) == []


def test_a_young_request_is_never_taken_for_lost():
    """It may still be on its way."""
    clock = Clock()
    inflight = InFlight(clock=clock, lease=600.0)
    inflight.admit(0)
    inflight.add(Entry("a", 0, clock(), prompt_tokens=1, output_tokens=1))
    assert looked(inflight, clock, 0, 0, 0, 0, 0) == []
    clock.now += 2.0
    assert looked(inflight, clock, 0, 0, 0, 0, 0) == ["a"]
