"""Filters: who may serve at all."""

from __future__ import annotations

import pytest

from services.epp.endpoints import Server
from services.epp.scheduling.filters.ready import Ready
from services.epp.scheduling.filters.subset import SubsetHint
from services.epp.scheduling.interfaces import Filter, Situation
from services.epp.scheduling.subset import parse
from tests.epp.scheduling.world import NOW, server, situation


def kept(plugin: Filter, asked: Situation, *servers: Server) -> list[int]:
    return [one.slot for one in plugin.keep(asked, servers)]


def test_a_server_that_is_not_ready_is_passed_over():
    """The picker is the only health authority: Envoy would use it all the same."""
    assert kept(Ready(), situation(), server(0), server(1, ready=False)) == [0]


def test_stale_servers_are_passed_over_while_a_fresh_one_exists():
    """Old metrics are old news."""
    stale, edge = server(0, scraped_at=NOW - 2.1), server(1, scraped_at=NOW - 2)

    assert kept(Ready(), situation(), stale, edge) == [1]


def test_when_all_are_stale_all_are_used():
    """The cause is more likely here, and refusing everybody helps nobody."""
    servers = [server(0, scraped_at=0), server(1, scraped_at=0), server(2, ready=False)]

    assert kept(Ready(), situation(), *servers) == [0, 1]


def test_without_a_hint_the_whole_pool_may_serve():
    """The key is absent."""
    assert kept(SubsetHint(), situation(subset=parse(None)), server(0), server(1)) == [0, 1]


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (["10.0.0.1:8000"], [0]),
        ("10.0.0.1:8000", [0]),
        ("10.0.0.1:8000, 10.0.0.2:8000", [0, 1]),
        (["10.0.0.1:8000", " 10.0.0.2:8000 "], [0, 1]),
        (["10.0.0.1:9999"], []),
        (["10.0.0.1"], [0, 2]),
        ("10.0.0.1", [0, 2]),
        (["[2001:DB8:0:0::1]:8000"], [3]),
        ("2001:db8::1", [3]),
        ("[2001:db8::1]", [3]),
        ([], []),
        ("", []),
        (["nonsense", 7.0, None], []),
        (7.0, []),
        (True, []),
    ],
)
def test_a_hint_allows_what_it_names_and_no_more(hint, expected):
    """Lists and comma strings; with a port that port, without one every port; what cannot be read allows nobody."""
    servers = [
        server(0),
        server(1),
        server(2, address="10.0.0.1:8001"),
        server(3, address="[2001:db8::1]:8000"),
    ]

    assert kept(SubsetHint(), situation(subset=parse(hint)), *servers) == expected
