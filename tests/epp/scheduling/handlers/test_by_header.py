"""The profile that a header names."""

from __future__ import annotations

import random

import pytest

from services.epp.scheduling.handlers.by_header import HeaderProfile
from services.extproc.errors import BadRequest
from services.extproc.events import Headers
from tests.epp.scheduling.handlers.world import Fixed
from tests.epp.scheduling.world import server, situation

PROFILES = {"decode": Fixed("decode"), "prefill": Fixed("prefill")}
SERVERS = [server(0)]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [([], "decode"), ([("epp-profile", " ")], "decode"), ([("epp-profile", "prefill")], "prefill")],
)
def test_the_named_profile_decides(headers, expected):
    """Without a name the default one."""
    scheduler = HeaderProfile().bind(PROFILES, {})
    request = situation(headers=Headers(headers))
    decision = scheduler.run(request, SERVERS, random.Random(1))

    assert decision.profile == expected
    assert scheduler.chosen(request, decision) == ((f"x-{expected}", "yes"),)


def test_a_profile_that_does_not_exist_is_the_clients_mistake():
    """A 400, not a 503: trying again does not help."""
    scheduler = HeaderProfile(header_name="X-Phase").bind(PROFILES, {})
    with pytest.raises(BadRequest, match="x-phase names no scheduling profile: 'Decode'"):
        scheduler.run(situation(headers=Headers([("x-phase", "Decode")])), SERVERS, random.Random(1))


def test_a_single_profile_always_decides():
    """The header is not looked at."""
    only = Fixed("only")

    assert HeaderProfile().bind({"only": only}, {}) is only


def test_the_default_must_exist():
    """Said at the start."""
    with pytest.raises(ValueError, match="defaultProfile: no profile 'decode', only a, b"):
        HeaderProfile().bind({"a": Fixed("a"), "b": Fixed("b")}, {})
