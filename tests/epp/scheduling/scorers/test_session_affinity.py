"""Sessions stay where they are: by a token that the client carries, or by an id that is remembered here."""

from __future__ import annotations

import base64

import pytest

from services.epp.plugins import PluginError, build
from services.epp.scheduling.interfaces import Situation
from services.epp.scheduling.scorers import session_affinity as module
from services.epp.scheduling.scorers.session_affinity import SessionId, SessionToken, session_affinity
from services.extproc.events import Headers
from tests.epp.scheduling.world import server, situation

SERVERS = [server(0), server(1), server(2)]


def with_header(name: str, value: str, **more) -> Situation:
    return situation(headers=Headers([(name, value)]), **more)


def test_the_token_of_the_answer_brings_the_next_request_back():
    """It is the base64 form of the address."""
    plugin = session_affinity()
    ((name, token),) = plugin.chosen(situation(), SERVERS[1])

    assert (name, token) == ("x-session-token", base64.b64encode(b"10.0.0.2:8000").decode())
    assert plugin.score(with_header(name, token), SERVERS) == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("token", ["", "***", "AAAA", base64.b64encode(b"10.9.9.9:1").decode(), "/w=="])
def test_a_token_that_names_no_candidate_says_nothing(token):
    """Clients may send what they like."""
    assert SessionToken("x-session-token").score(with_header("x-session-token", token), SERVERS) == [0.0] * 3


def test_the_header_can_have_another_name():
    """In whatever letters."""
    plugin = build("session-affinity-scorer", {"encodedEndpointHeaderConfig": {"headerName": "X-Sticky"}})

    assert plugin == SessionToken("x-sticky")


def sessions(**config) -> SessionId:
    plugin = build("session-affinity-scorer", {"strategy": "session_id", "sessionIdConfig": config})
    assert isinstance(plugin, SessionId)
    return plugin


def test_a_session_stays_with_whoever_got_its_first_request():
    """Also when that was not the one proposed."""
    plugin = sessions()
    request = with_header("x-session-id", "s1")
    plugin.chosen(request, SERVERS[2])

    assert plugin.score(request, SERVERS) == [0.0, 0.0, 1.0]


def test_a_new_session_belongs_to_the_server_with_the_fewest():
    """So that sessions spread."""
    plugin = sessions()
    for number, slot in enumerate((0, 0, 1)):
        plugin.chosen(with_header("x-session-id", f"s{number}"), SERVERS[slot])

    assert plugin.score(with_header("x-session-id", "new"), SERVERS) == [0.0, 0.0, 1.0]


def test_a_session_whose_server_is_gone_moves():
    """To the candidate with the fewest, and stays there when the old one comes back."""
    plugin = sessions()
    request = with_header("x-session-id", "s1")
    plugin.chosen(request, SERVERS[0])
    assert plugin.score(request, SERVERS[1:]) == [1.0, 0.0]

    plugin.chosen(request, SERVERS[1])
    assert plugin.score(request, SERVERS) == [0.0, 1.0, 0.0]


def test_a_session_without_requests_is_forgotten():
    """Its server then has one session less."""
    plugin = sessions(evictionTtlSeconds=60)
    plugin.chosen(with_header("x-session-id", "s1"), SERVERS[0])
    later = Situation(situation().digest, 1000.0, headers=Headers([("x-session-id", "s2")]))

    assert plugin.score(later, SERVERS) == [1.0, 0.0, 0.0]


def test_the_first_source_that_the_request_has_counts():
    """In the order of the file."""
    plugin = sessions(sources=[{"header": "X-A"}, {"header": "x-b"}])
    plugin.chosen(with_header("x-b", "s1"), SERVERS[1])

    assert plugin.score(with_header("x-b", "s1"), SERVERS) == [0.0, 1.0, 0.0]
    both = situation(headers=Headers([("x-b", "s1"), ("x-a", "other")]))
    assert plugin.score(both, SERVERS) == [1.0, 0.0, 0.0]


def test_a_request_without_a_session_has_no_preference():
    """And leaves nothing behind."""
    plugin = sessions()
    plugin.chosen(situation(), SERVERS[0])

    assert plugin.score(situation(), SERVERS) == [0.0, 0.0, 0.0]


def test_sessions_are_bounded(monkeypatch):
    """The one longest without a request goes first."""
    monkeypatch.setattr(module, "MAX_SESSIONS", 2)
    plugin = sessions()
    for number in range(3):
        plugin.chosen(with_header("x-session-id", f"s{number}"), SERVERS[2])

    assert plugin.score(with_header("x-session-id", "s0"), SERVERS) == [1.0, 0.0, 0.0]
    assert plugin.score(with_header("x-session-id", "s1"), SERVERS) == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"strategy": "cookie"}, "Invalid enum value"),
        ({"sessionIdConfig": {}}, "belongs to strategy session_id"),
        (
            {"strategy": "session_id", "encodedEndpointHeaderConfig": {}},
            "belongs to strategy encoded_endpoint_header",
        ),
        ({"strategy": "session_id", "sessionIdConfig": {"sources": [{"attribute": "a"}]}}, r"sources\[0\]"),
        ({"strategy": "session_id", "sessionIdConfig": {"evictionTtlSeconds": 0}}, "> 0"),
    ],
)
def test_wrong_parameters_are_refused(parameters, message):
    """A part that would be ignored is an error."""
    with pytest.raises(PluginError, match=message):
        build("session-affinity-scorer", parameters)
