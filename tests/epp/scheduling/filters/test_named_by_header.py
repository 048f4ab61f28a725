"""The filter that tests of gateways use."""

from __future__ import annotations

import pytest

from services.epp.scheduling.filters.named_by_header import SELECTION, NamedByHeader
from services.extproc.events import Headers
from tests.epp.scheduling.world import server, situation, slots

SERVERS = [
    server(0, address="10.0.0.1:3000"),
    server(1, address="10.0.0.1:3002"),
    server(2, address="10.0.0.2:3000"),
    server(3, address="[fd00::1]:3000"),
]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("10.0.0.2:3000", [2]),
        ("10.0.0.1:3002", [1]),  # ports count
        ("10.0.0.1", [0, 1]),  # every port of an address
        ("10.0.0.2, [fd00::1]:3000", [2, 3]),
        ("[fd00::1]", [3]),
        ("10.0.0.2,10.0.0.2", [2]),
        ("10.9.9.9", []),
        ("nonsense", []),
        ("", []),
    ],
)
def test_only_named_servers_stay(value, expected):
    """An address with or without a port."""
    request = situation(headers=Headers([(SELECTION, value)]))

    assert slots(NamedByHeader().keep(request, SERVERS)) == expected


def test_without_the_header_nobody_stays():
    """As in the reference: a request that got past the test by accident must show."""
    assert slots(NamedByHeader().keep(situation(), SERVERS)) == []
