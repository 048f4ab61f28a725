"""What clients ask."""

from __future__ import annotations

import pytest

from bench.routing.turns import BLOCK, Exchange, conversation
from services.openai.digest import BOUNDARIES, BYTES_PER_TOKEN


def talk(*questions, system=((1, 400),), adapter="", answers=100):
    """Return the turns of one conversation; run names are the questions' own."""
    exchanges = [Exchange([(name, 50)], (name + 1000, answers)) for name in questions]
    return list(conversation(0, list(system), exchanges, adapter=adapter))


def common(one, other):
    return sum(a == b for a, b in zip(one, other, strict=False))


def test_a_turn_begins_with_all_that_was_said_before_it():
    """Prompt, question and answer of the first turn are the beginning of the second."""
    first, second = talk(2, 3)

    assert (first.prompt_tokens, second.prompt_tokens) == (450, 450 + 100 + 50)
    assert second.blocks[: len(first.blocks)] == first.blocks
    assert second.digest.blocks[: len(first.digest.blocks)] == first.digest.blocks


def test_conversations_share_their_system_prompt_and_nothing_else():
    """The blocks up to its end, in the cache and in the digest."""
    one, other = talk(2)[0], talk(7)[0]

    assert common(one.blocks, other.blocks) == 400 // BLOCK
    shown = common(one.digest.blocks, other.digest.blocks)
    assert BOUNDARIES[shown - 1] <= 400 * BYTES_PER_TOKEN < BOUNDARIES[shown]


def test_an_adapter_shares_nothing_with_the_base_model():
    """Its cache is its own."""
    assert common(talk(2)[0].blocks, talk(2, adapter="a")[0].blocks) == 0


def test_blocks_cover_prompt_and_answer_but_the_digest_only_the_prompt():
    """As the engine and the picker see them."""
    turn = talk(2)[0]

    assert len(turn.blocks) == (450 + 100) // BLOCK
    assert turn.digest.prompt_tokens == 450
    assert BOUNDARIES[len(turn.digest.blocks) - 1] <= 450 * BYTES_PER_TOKEN


def test_a_conversation_without_a_question_is_refused():
    """There would be nothing to ask."""
    with pytest.raises(ValueError, match="at least one"):
        conversation(0, [(1, 10)], [])
