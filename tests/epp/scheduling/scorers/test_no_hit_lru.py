"""Cold prompts go round."""

from __future__ import annotations

from dataclasses import replace

from services.epp.scheduling.scorers.no_hit_lru import NoHitLru
from tests.epp.scheduling.world import server, situation

SERVERS = [server(0), server(1), server(2)]


def test_whoever_got_a_cold_prompt_longest_ago_is_best():
    """Never is longest ago."""
    plugin = NoHitLru()
    assert plugin.score(situation(), SERVERS) == [1.0, 1.0, 1.0]

    plugin.chosen(situation(), SERVERS[1])
    assert plugin.score(situation(), SERVERS) == [1.0, 0.0, 1.0]

    plugin.chosen(situation(), SERVERS[0])
    assert plugin.score(situation(), SERVERS) == [0.0, 0.5, 1.0]

    plugin.chosen(situation(), SERVERS[1])
    assert plugin.score(situation(), SERVERS) == [0.5, 0.0, 1.0]


def test_warm_prompts_are_not_its_business():
    """They score 0.5 everywhere and are not remembered."""
    plugin = NoHitLru()
    warm = situation(matches={2: 1})
    plugin.chosen(warm, SERVERS[0])

    assert plugin.score(warm, SERVERS) == [0.5, 0.5, 0.5]
    assert plugin.score(situation(), SERVERS) == [1.0, 1.0, 1.0]


def test_a_single_candidate_scores_1():
    """There is nothing to rank."""
    plugin = NoHitLru()
    plugin.chosen(situation(), SERVERS[0])

    assert plugin.score(situation(), SERVERS[:1]) == [1.0]


def test_it_remembers_only_so_many_servers():
    """The oldest is forgotten, and counts as never."""
    plugin = NoHitLru(lru_size=2)
    for one in SERVERS:
        plugin.chosen(situation(), one)

    assert plugin.score(situation(), SERVERS) == [1.0, 0.5, 0.0]


def test_pools_do_not_mix():
    """The same address in another pool is another server."""
    plugin = NoHitLru()
    plugin.chosen(replace(situation(), pool="a"), SERVERS[0])

    assert plugin.score(replace(situation(), pool="b"), SERVERS) == [1.0, 1.0, 1.0]
