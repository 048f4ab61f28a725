from __future__ import annotations

import itertools
from collections import Counter

from tools.workload.conversations import Shape, conversations
from tools.workload.requests import TimedRequest
from tools.workload.text import TOKEN_BYTES


def by_session(requests: list[TimedRequest]) -> dict[str, list[TimedRequest]]:
    sessions: dict[str, list[TimedRequest]] = {}
    for request in requests:
        sessions.setdefault(request.session, []).append(request)
    return sessions


def test_equal_seeds_give_equal_requests():
    """A run can be repeated, and another seed is another run."""
    shape = Shape(sessions=20)
    assert conversations(shape, 7) == conversations(shape, 7)
    assert conversations(shape, 7) != conversations(shape, 8)


def test_requests_come_in_order_of_time():
    """A player can walk the list once."""
    times = [request.at for request in conversations(Shape(), 1)]
    assert times == sorted(times)
    assert times[0] > 0


def test_every_turn_repeats_the_conversation_and_adds_a_question():
    """The prompt of a turn begins with the whole prompt of the turn before it."""
    for turns in by_session(conversations(Shape(sessions=20), 3)).values():
        assert [request.turn for request in turns] == list(range(len(turns)))
        for before, after in itertools.pairwise(turns):
            assert after.prompt.startswith(before.prompt)
            assert [m.role for m in after.messages[len(before.messages) :]] == ["assistant", "user"]
            assert after.at > before.at


def test_sessions_of_a_tenant_share_its_system_prompt_and_nothing_else():
    """Tenants differ in the system prompt, sessions in the first question."""
    firsts = [turns[0] for turns in by_session(conversations(Shape(sessions=40, tenants=3), 3)).values()]
    system = {request.tenant: request.messages[0].content for request in firsts}
    assert len(set(system.values())) == len(system) == 3
    assert all(request.messages[0].content == system[request.tenant] for request in firsts)
    assert len({request.messages[1].content for request in firsts}) == 40


def test_lengths_stay_in_their_bounds():
    """Tokens of system prompts, questions and answers, and the number of turns, are as the shape says."""
    shape = Shape(system_tokens=50, turns=(2, 3), question_tokens=(5, 9), answer_tokens=(10, 12))
    sessions = by_session(conversations(shape, 5))
    assert {len(turns) for turns in sessions.values()} == {2, 3}
    for request in (request for turns in sessions.values() for request in turns):
        lengths = [len(message.content) // TOKEN_BYTES for message in request.messages]
        assert lengths[0] == 50
        assert all(5 <= n <= 9 for n in lengths[1::2])
        assert all(10 <= n <= 12 for n in lengths[2::2])
        assert 10 <= request.max_tokens <= 12


def test_a_few_tenants_make_most_of_the_traffic():
    """Tenants follow Zipf's law: with exponent 1.1 the first of 8 has about 37 % of the sessions."""
    shape = Shape(sessions=2000, turns=(1, 1), burst_share=0)
    counts = Counter(request.tenant for request in conversations(shape, 11))
    assert 0.32 < counts["tenant-0"] / 2000 < 0.42  # 4.5 standard deviations are 0.049
    assert counts["tenant-0"] > counts["tenant-3"] > counts["tenant-7"] > 0


def test_bursts_bring_sessions_of_one_tenant_at_one_moment():
    """With only bursts, sessions come six at a time."""
    shape = Shape(sessions=60, turns=(1, 1), burst_share=1, burst_sessions=6)
    moments: dict[float, list[str]] = {}
    for request in conversations(shape, 2):
        moments.setdefault(request.at, []).append(request.tenant)
    assert [len(tenants) for tenants in moments.values()] == [6] * 10
    assert all(len(set(tenants)) == 1 for tenants in moments.values())
