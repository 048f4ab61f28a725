"""What is learnt from finished requests: who is fast, what is typical, and how long prompts keep a server."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from services.epp.cost.pace import Fleet
from services.epp.cost.typical import Typical
from services.epp.inflight import Entry, Load
from services.epp.records import EndOutcome, Finished
from tests.epp.world import Clock

END = Finished("p", "d", "10.0.0.1:8000", EndOutcome.COMPLETED, status=200)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fleet_of(count: int, clock: Clock) -> Fleet:
    fleet = Fleet(clock)
    for slot in range(count):
        fleet.admit(slot)
    return fleet


def entry(
    slot: int, *, prompt: int = 800, batch: float = 4.0, model: str = "m", max_tokens: int = 0
) -> Entry:
    return Entry(
        "d",
        slot,
        0.0,
        prompt,
        100,
        ahead=prompt,
        batch=batch,
        model=model,
        context_tokens=prompt,
        max_tokens=max_tokens,
    )


def serve(fleet: Fleet, slot: int, speed: float, rng: random.Random, *, streamed: bool) -> None:
    """One request at a server that is `speed` times as fast as the prior."""
    prompt, tokens, batch = rng.randint(100, 4000), rng.randint(20, 400), rng.randint(1, 30)
    first = (0.01 + prompt / 8000) / speed * rng.uniform(0.8, 1.25)
    seconds = first + tokens * (0.006 + 0.00035 * batch) / speed * rng.uniform(0.8, 1.25)
    end = replace(END, seconds=seconds, first_token=first if streamed else None, output_tokens=tokens)
    fleet.finished(entry(slot, prompt=prompt, batch=batch), end, Load(requests=batch))


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("speed", [0.25, 1.0, 50.0])
def test_the_speed_of_a_fleet_is_learnt(clock, speed, streamed):
    """From the first token where it was seen, else from the duration alone."""
    fleet, rng = fleet_of(4, clock), random.Random(1)
    for number in range(400):
        serve(fleet, number % 4, speed, rng, streamed=streamed)

    for pace in fleet.paces:
        assert pace.prefill == pytest.approx(1 / 8000 / speed, rel=0.4)
        assert pace.step + 15 * pace.sequence == pytest.approx((0.006 + 15 * 0.00035) / speed, rel=0.3)


@pytest.mark.parametrize("streamed", [True, False])
def test_who_answers_first_is_not_taken_for_fast(clock, streamed):
    """While the prior is far off, what is measured says how fast the pool is, not the server."""
    fleet, rng = fleet_of(2, clock), random.Random(5)
    for _ in range(9):
        serve(fleet, 0, 50.0, rng, streamed=streamed)

    assert fleet.paces[0].prefill == fleet.paces[1].prefill < 1 / 8000 / 4
    assert fleet.paces[0].step == fleet.paces[1].step


@pytest.mark.parametrize("streamed", [True, False])
def test_a_slow_server_is_told_apart(clock, streamed):
    """One of four at half speed: it costs about twice as much as the others, which stay alike."""
    fleet, rng = fleet_of(4, clock), random.Random(2)
    for number in range(600):
        serve(fleet, number % 4, 0.5 if number % 4 == 0 else 1.0, rng, streamed=streamed)
    slow, *others = (pace.prefill * 1000 + 100 * (pace.step + 10 * pace.sequence) for pace in fleet.paces)

    assert all(1.6 < slow / other < 2.4 for other in others)
    assert max(others) / min(others) < 1.25


def test_a_server_that_nobody_used_for_a_while_is_like_the_others_again(clock):
    """Else it would be avoided for ever."""
    fleet, rng = fleet_of(2, clock), random.Random(3)
    for number in range(300):
        serve(fleet, number % 2, 0.25 if number % 2 else 1.0, rng, streamed=True)
    before = fleet.paces[1].prefill / fleet.paces[0].prefill
    for _ in range(1500):
        clock.now += 0.2
        for slot in range(2):
            fleet.looked_at(slot, 0, 0)

    assert before > 2.5
    assert fleet.paces[1].prefill / fleet.paces[0].prefill == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [(EndOutcome.SERVER_FAILED, 0), (EndOutcome.COMPLETED, 503), (EndOutcome.COMPLETED, 429)],
)
def test_a_server_that_fails_at_once_is_not_taken_for_a_fast_one(clock, outcome, status):
    """A black hole answers in no time. Each failure makes more attempts likely, up to twenty."""
    fleet = fleet_of(2, clock)
    before = fleet.paces[0].prefill
    for _ in range(100):
        fleet.finished(
            entry(0), replace(END, outcome=outcome, status=status, seconds=0.001), Load(requests=1)
        )

    assert fleet.paces[0].prefill == pytest.approx(before)
    assert fleet.paces[0].attempts == pytest.approx(20, rel=0.05)
    assert fleet.paces[1].attempts == 1.0


def test_refused_requests_teach_nothing(clock):
    """A 400 is the client's."""
    fleet = fleet_of(1, clock)
    before = replace(fleet.paces[0])
    fleet.finished(entry(0), replace(END, status=400, seconds=0.001, output_tokens=5), Load(requests=1))

    assert fleet.paces[0] == before


def test_a_client_that_left_before_the_answer_tells_only_that_it_took_long(clock):
    """Sooner than expected means nothing; later means slow."""
    fleet = fleet_of(1, clock)
    left = replace(END, outcome=EndOutcome.CLIENT_LEFT, status=0)
    fleet.finished(entry(0), replace(left, seconds=0.01), Load(requests=1))
    assert fleet.paces[0].slow_prefill.log == 0
    fleet.finished(entry(0), replace(left, seconds=30), Load(requests=1))
    assert fleet.paces[0].slow_prefill.log > 0


def test_prompts_queue_up_and_are_worked_off(clock):
    """8,000 tokens a second, one prompt after the other."""
    fleet = fleet_of(1, clock)
    assert fleet.sent(entry(0, prompt=8000, batch=0)).ahead == pytest.approx(8000)
    assert fleet.sent(entry(0, prompt=4000, batch=0)).ahead == pytest.approx(12000)
    clock.now += 1.0
    assert fleet.sent(entry(0, prompt=80, batch=0)).ahead == pytest.approx(4080)
    fleet.unsent(entry(0, prompt=80))
    assert fleet.paces[0].busy_until == pytest.approx(clock() + 0.5)
    fleet.idle(0)
    assert fleet.sent(entry(0, prompt=80, batch=0)).ahead == pytest.approx(80)


def test_an_answer_says_that_the_prompts_before_it_are_done(clock):
    """Whatever the estimate was: only what was sent later is left. Earlier answers say less."""
    fleet = fleet_of(1, clock)
    entries = []
    for prompt in (8000, 4000, 800):
        one = entry(0, prompt=prompt)
        place = fleet.sent(one)
        entries.append(replace(one, ahead=place.ahead, mark=place.sent, stalled=place.stalled))
    fleet.passed(entries[1])
    assert fleet.paces[0].busy_until == pytest.approx(clock() + 0.1)
    fleet.passed(entries[0])
    assert fleet.paces[0].busy_until == pytest.approx(clock() + 0.1)


def test_a_queue_is_as_long_as_the_server_turns_out_to_be_slow(clock):
    """The tokens stay, their seconds change."""
    fleet = fleet_of(1, clock)
    fleet.sent(entry(0, prompt=8000))
    for _ in range(200):
        fleet.finished(
            entry(0), replace(END, seconds=0.5, first_token=0.22, output_tokens=1000), Load(requests=4)
        )
    waits = fleet.paces[0].busy_until - clock()

    assert waits == pytest.approx(8000 * fleet.paces[0].prefill)
    assert waits > 1.5


def test_adapters_are_remembered_as_far_as_they_fit(clock):
    """The least recently used one goes; fewer places make more go."""
    fleet = fleet_of(1, clock)
    fleet.looked_at(0, 2, 0)
    for model in ("a", "b", "a", "c"):
        fleet.sent(entry(0, model=model))
    assert list(fleet.paces[0].adapters) == ["a", "c"]
    fleet.looked_at(0, 1, 0)
    assert list(fleet.paces[0].adapters) == ["c"]
    fleet.looked_at(0, 0, 0)
    fleet.sent(entry(0, model="d"))
    assert not fleet.paces[0].adapters


def test_a_newcomer_is_as_fast_as_the_pool(clock):
    """Nobody knows it yet, but the others are known; its slot's former owner does not matter."""
    fleet, rng = fleet_of(2, clock), random.Random(4)
    for number in range(300):
        serve(fleet, number % 2, 10.0 if number % 2 else 9.0, rng, streamed=True)
    fleet.admit(0)

    assert fleet.paces[0].prefill == pytest.approx(1 / 8000 / 9.5, rel=0.4)
    assert fleet.paces[0].busy_until == 0


def test_the_usual_number_of_requests_is_a_mean_of_some_seconds(clock):
    """What is there now counts little: a conversation that pauses takes it off for a moment."""
    fleet = fleet_of(1, clock)
    for _ in range(400):
        clock.now += 0.2
        fleet.looked_at(0, 0, 4)
    assert fleet.paces[0].usual == pytest.approx(4.0, rel=0.01)
    clock.now += 0.2
    fleet.looked_at(0, 0, 0)
    assert fleet.paces[0].usual == pytest.approx(4.0 * math.exp(-0.2 / 8), rel=0.01)


@pytest.mark.parametrize(("found", "more"), [(0, 1.0), (200, 0.5), (400, 0.0), (800, 0.0)])
def test_a_conversation_that_begins_is_at_home_at_once(clock, found, more):
    """Of 800 tokens: or many that begin within a second would all go where few were before. A turn counts when it is seen."""
    fleet = fleet_of(1, clock)
    fleet.sent(replace(entry(0, prompt=800), prompt_tokens=800 - found))

    assert fleet.paces[0].usual == pytest.approx(more)


def test_a_conversation_that_another_server_took_is_not_at_home_here(clock):
    """What it counted is taken back, and never more than there is."""
    fleet = fleet_of(2, clock)
    fleet.sent(entry(0, prompt=800))
    fleet.unsent(entry(0, prompt=800))
    fleet.unsent(entry(1, prompt=800))

    assert [pace.usual for pace in fleet.paces] == [0.0, 0.0]


def test_how_busy_prompts_keep_a_pool_fades_in_a_second(clock):
    """Two prompts of half a second each: one server's worth; nothing of it is left after ten."""
    fleet = fleet_of(2, clock)
    for slot in range(2):
        fleet.sent(entry(slot, prompt=4000, batch=0))

    assert fleet.typical.busy(clock.now) == pytest.approx(1.0)
    assert fleet.typical.busy(clock.now + 1) == pytest.approx(1 / math.e)
    assert fleet.typical.busy(clock.now + 10) < 1e-4


def test_what_is_told_late_has_faded_by_as_much():
    """Another replica's prompt of two seconds ago, and the order does not matter."""
    late, ordered = Typical(), Typical()
    for at in (12.0, 10.0):
        late.sent(at, 0.5)
    for at in (10.0, 12.0):
        ordered.sent(at, 0.5)

    assert late.busy(13.0) == pytest.approx(ordered.busy(13.0))


def test_behind_a_long_queue_little_is_learnt_of_a_server(clock):
    """How much was in the queue is itself a guess, so that twice the time need not mean half the speed."""
    found = []
    for ahead in (800, 80_000):
        fleet, rng = fleet_of(2, clock), random.Random(6)
        for number in range(40):
            serve(fleet, number % 2, 1.0, rng, streamed=False)
        one = replace(entry(0, prompt=800), ahead=ahead)
        known = fleet.paces[0].slow_decode.log
        end = replace(END, seconds=2 * (ahead / 8000 + 100 * 0.0074), output_tokens=100)
        fleet.finished(one, end, Load(requests=4))
        found.append(fleet.paces[0].slow_decode.log - known)

    assert found[0] > 5 * found[1] > 0


@pytest.mark.parametrize(
    ("limits", "lengths", "asked", "expected"),
    [
        (0, 100, 0, 100),  # without limits, what answers are
        (4096, 100, 4096, 100),  # limits that nobody reaches
        (800, 800, 1600, 1600),  # limits that are always reached
        (0, 100, 7, 7),  # never more than the limit
    ],
)
def test_how_long_an_answer_will_be(clock, limits, lengths, asked, expected):
    """Learnt from answers and from how much of their limits they took."""
    fleet = fleet_of(1, clock)
    for _ in range(500):
        end = replace(END, seconds=2, first_token=0.1, output_tokens=lengths)
        fleet.finished(entry(0, max_tokens=limits), end, Load(requests=4))

    assert fleet.typical.output(asked) == pytest.approx(expected, rel=0.1)


def test_before_anything_is_known_an_answer_is_average_or_at_its_limit():
    """256 tokens, or fewer where the client wants fewer."""
    assert [Typical().output(limit) for limit in (0, 50, 4096)] == [256, 50, 256]
