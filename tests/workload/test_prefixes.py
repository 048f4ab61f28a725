from __future__ import annotations

import random

import pytest

from tools.workload.conversations import Shape, conversations
from tools.workload.prefixes import Hits, Prompt, ideal_hits, random_hits, text_prompt


def test_the_ideal_finds_the_longest_known_prefix():
    """A hit ends at the first block that nobody asked for before, whatever comes after it."""
    prompts = [
        Prompt([1, 2, 3], 12, 4),
        Prompt([1, 2, 4], 12, 4),
        Prompt([9, 2, 3], 12, 4),
        Prompt([1, 2, 3], 12, 4),
    ]
    assert ideal_hits(prompts) == Hits(prompt_tokens=48, cached_tokens=8 + 12)


def test_a_short_last_block_counts_as_long_as_it_is():
    """Nothing is found that was not asked for."""
    assert ideal_hits([Prompt([1, 2], 5, 4), Prompt([1, 2], 5, 4)]) == Hits(10, 5)


def test_random_routing_finds_a_prefix_only_on_the_server_that_saw_it():
    """Of many equal prompts all but one for each server are found."""
    prompts = [Prompt([1], 10, 10)] * 200
    assert random_hits(prompts, 4, random.Random(1)) == Hits(2000, 1960)


def test_text_is_cut_into_chained_blocks():
    """Equal blocks after different beginnings are different prefixes, and an incomplete tail is no block."""
    a, b = text_prompt("a" * 64 + "x" * 64 + "tail"), text_prompt("b" * 64 + "x" * 64)
    assert len(a.blocks) == len(b.blocks) == 2
    assert not set(a.blocks) & set(b.blocks)
    assert a.tokens == 33


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_generated_conversations_reward_routing(seed):
    """Between the ideal and random routing over 4 servers lies room to tell a good router from a bad one."""
    prompts = [text_prompt(request.prompt) for request in conversations(Shape(), seed)]
    ideal, by_chance = ideal_hits(prompts).rate, random_hits(prompts, 4, random.Random(seed)).rate
    assert ideal > 0.7
    assert ideal - by_chance > 0.15


def test_no_prompts_have_no_rate():
    """The rate of nothing is 0 and not an error."""
    assert ideal_hits([]).rate == 0
