from __future__ import annotations

import pytest

from services.epp.kvevents.index import SOON, ExactIndex
from services.epp.kvevents.wire import Cleared, Removed, Stored
from services.openai.digest import prefix_bytes
from services.openai.exact import Exact, exact_of, pack, salted

SIZE = 16
PROMPT = list(range(SIZE * 10 + 1))  # ten complete blocks
NOW = 100.0


def exact(ids=PROMPT, **others) -> Exact:
    """Four bytes are a token, so block i of the digest is block i of tokens."""
    return exact_of(ids, block_size=SIZE, prompt_bytes=4 * len(ids), **others)


def stored(keys, ids=PROMPT, *, first=0, parent=None, **others) -> Stored:
    tokens = ids[first * SIZE : (first + len(keys)) * SIZE]
    return Stored(tuple(keys), parent, pack(tokens), SIZE, **others)


def index_of(**events) -> ExactIndex:
    """`s0=[…]` are the events of a whole view in slot 0."""
    index = ExactIndex()
    for name, told in events.items():
        slot = int(name[1:])
        index.begin(slot, whole=True)
        for event in told:
            index.apply(slot, event)
    return index


def matches(index, prompt=None, sent=None, now=NOW):
    return dict(index.correct(sent or {}, prompt or exact(), now))


def test_a_prompt_is_found_as_far_as_each_server_holds_it():
    """Whatever hashes the servers give their blocks."""
    index = index_of(
        s0=[stored([1, 2, 3])],
        s1=[stored([901, 902]), stored([903, 904], first=2, parent=902)],
        s2=[stored([1, 2, 3], [7, *PROMPT[1:]])],
    )
    assert matches(index) == {0: 3, 1: 4}


def test_what_was_evicted_is_not_believed_any_more():
    """Though it was sent there."""
    index = index_of(s0=[stored(range(1, 11))])
    assert matches(index, sent={0: 10}) == {0: 10}
    index.apply(0, Removed((10, 9, 8)))
    assert matches(index, sent={0: 10}) == {0: 7}
    index.apply(0, Cleared())
    assert matches(index, sent={0: 10}) == {}


def test_a_block_that_is_there_twice_stays_until_both_copies_are_gone():
    """Two requests computed it at the same time, and vLLM keeps both."""
    index = index_of(s0=[stored([1]), stored([1]), Removed((1,))])
    assert matches(index) == {0: 1}
    index.apply(0, Removed((1,)))
    assert matches(index) == {}


def test_silence_of_a_partial_view_means_nothing():
    """What the server held before the view began is not known; what was sent there counts."""
    index = ExactIndex()
    index.begin(0, whole=False)
    index.apply(0, stored([1, 2, 3]))
    assert matches(index, sent={0: 8}) == {0: 8}
    assert matches(index, sent={0: 2}) == {0: 3}


def test_without_a_word_of_the_server_what_was_sent_counts():
    """So it does for blocks of another size, and for a prompt that is not known in tokens."""
    index = index_of(s0=[stored([1, 2])])
    assert matches(index, sent={1: 5}) == {0: 2, 1: 5}
    other = exact_of(PROMPT, block_size=32, prompt_bytes=4 * len(PROMPT))
    assert matches(index, other, sent={0: 5}) == {0: 5}
    assert matches(index, Exact(SIZE, 0, 0), sent={0: 5}) == {0: 5}


def test_beyond_what_is_known_in_tokens_what_was_sent_counts():
    """For a server that holds all that is known; one that does not cannot hold what follows."""
    index = index_of(s0=[stored([1, 2, 3, 4])], s1=[stored([1, 2])])
    known = exact(PROMPT[: SIZE * 4 + 1])
    assert matches(index, known, sent={0: 9, 1: 9}) == {0: 9, 1: 2}


def test_a_block_after_an_unknown_one_has_no_place():
    """It is counted, and the view is partial from then on."""
    index = index_of(s0=[stored([5], first=4, parent=4)])
    assert matches(index) == {}
    assert (index.counts.orphans, index.whole(0)) == (1, False)


def test_adapters_and_salts_are_kept_apart():
    """A request finds only what was computed for its adapter and under its salt."""
    index = index_of(
        s0=[stored([1, 2], adapter="food")],
        s1=[stored([1, 2], extras=(salted("tenant"), b""))],
        s2=[stored([1, 2])],
    )
    assert matches(index, exact(adapter="food")) == {0: 2}
    assert matches(index, exact(cache_salt="tenant")) == {1: 2}
    assert matches(index) == {2: 2}


def test_what_was_just_sent_counts_until_the_server_can_tell():
    """Siblings of a burst come before the first event."""
    index = index_of(s0=[], s1=[])
    index.expect(0, exact(), NOW)
    index.expect(0, exact(PROMPT[:40]), NOW + 1)
    assert matches(index, now=NOW + 0.5) == {0: 10}
    assert matches(index, now=NOW + SOON) == {0: 2}
    assert matches(index, now=NOW + SOON + 1) == {}


def test_what_was_sent_and_told_is_believed_by_the_servers_word_alone():
    """It may evict it again before the time is over."""
    index = index_of(s0=[])
    index.expect(0, exact(), NOW)
    index.apply(0, stored(range(1, 11)))
    index.apply(0, Removed((10, 9, 8)))
    assert matches(index) == {0: 7}
    index.expect(0, exact(), NOW)
    index.apply(0, Removed((7,)))
    assert matches(index) == {0: 6}
    index.expect(0, exact(), NOW)
    index.apply(0, Cleared())
    assert matches(index) == {}


def sent_for(index, model, *, told, seed=0):
    """Forty prompts one after the other, of which the server tells or not; return the time after them."""
    for number in range(40):
        ids = [number + 1000 * (seed + 1), *PROMPT]
        index.expect(0, exact(ids), NOW + number, model)
        if told:
            index.apply(0, stored([number + 100 * (seed + 1)], ids))
    return NOW + 50


def test_tokens_that_the_servers_never_tell_of_are_not_trusted():
    """Of another vocabulary, say: then a whole view that lacks them denies nothing, model by model."""
    index = index_of(s0=[])
    sent_for(index, "good", told=True)
    after = sent_for(index, "bad", told=False, seed=2)
    assert dict(index.correct({0: 5}, exact(), after, "bad")) == {0: 5}
    assert dict(index.correct({0: 5}, exact(), after, "good")) == {}
    assert index.trust("bad") < 0.5 < index.trust("good") == 1.0
    assert index.least_trust == index.trust("bad")
    sent_for(index, "bad", told=True, seed=1)
    assert dict(index.correct({0: 5}, exact(), after, "bad")) == {}


def test_the_largest_view_gives_way():
    """The whole is bounded, and a view that was cut is partial."""
    index = ExactIndex(blocks=100)
    for slot, blocks in ((0, 90), (1, 20)):
        index.begin(slot, whole=True)
        ids = list(range(SIZE * blocks))
        index.apply(slot, stored(range(1, blocks + 1), ids))
    assert len(index) <= 100
    assert (index.whole(0), index.whole(1), index.size(1)) == (False, True, 20)


@pytest.mark.parametrize("leave", [lambda index: index.forget(0), lambda index: index.begin(0, whole=True)])
def test_nothing_is_left_of_a_server_that_left_or_began_anew(leave):
    """Its slot can be given to another one."""
    index = index_of(s0=[stored(range(1, 11)), stored([1])])
    index.apply(0, stored([1]))
    leave(index)
    assert (len(index), index.size(0), matches(index)) == (0, 0, {})


def test_a_server_that_left_is_not_expected_to_hold_anything():
    """What was just sent to it was sent to it, not to whoever gets its slot."""
    index = index_of(s0=[])
    index.expect(0, exact(), NOW)
    index.forget(0)
    assert matches(index) == {}


def test_a_long_prompt_is_matched_near_its_end():
    """Few hashes travel, so that the place is a step of them exact: 1,024 tokens of 100,000."""
    ids = list(range(SIZE * 6250 + 1))
    keys = range(1, 5001)
    index = index_of(s0=[stored(keys, ids)])
    (blocks,) = matches(index, exact(ids)).values()
    held = 5000 * SIZE * 4
    assert 0.98 * held <= prefix_bytes(blocks) <= held
