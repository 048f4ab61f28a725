"""The order of messages on one side."""

from __future__ import annotations

import itertools

import pytest

from services.extproc.errors import ProtocolError
from services.extproc.messages import Message, Part, Side
from services.extproc.phases import TRANSITIONS, Input, Phase, advance

MESSAGES = {
    Input.HEADERS: Message(Side.REQUEST, Part.HEADERS),
    Input.HEADERS_END: Message(Side.REQUEST, Part.HEADERS, end=True),
    Input.BODY: Message(Side.REQUEST, Part.BODY),
    Input.BODY_END: Message(Side.REQUEST, Part.BODY, end=True),
    Input.TRAILERS: Message(Side.REQUEST, Part.TRAILERS),
}

ILLEGAL = set(itertools.product(Phase, Input)) - set(TRANSITIONS)


@pytest.mark.parametrize(("phase", "given"), TRANSITIONS, ids=str)
def test_a_legal_message_moves_on(phase, given):
    """The table is what the code runs."""
    assert advance(phase, MESSAGES[given]) is TRANSITIONS[phase, given]


@pytest.mark.parametrize(("phase", "given"), sorted(ILLEGAL, key=str), ids=str)
def test_an_illegal_message_is_a_breach_of_the_protocol(phase, given):
    """Second headers, trailers before headers, anything but body after the end."""
    with pytest.raises(ProtocolError, match=f"request {given.value} {phase.value}"):
        advance(phase, MESSAGES[given])


def test_what_is_illegal_is_known_by_heart():
    """A change of the table is a change of this list."""
    assert {phase: {given for at, given in ILLEGAL if at is phase} for phase in Phase} == {
        Phase.START: {Input.BODY, Input.BODY_END, Input.TRAILERS},
        Phase.BODY: {Input.HEADERS, Input.HEADERS_END},
        Phase.ENDED: {Input.HEADERS, Input.HEADERS_END, Input.TRAILERS},
        Phase.TRAILED: {Input.HEADERS, Input.HEADERS_END, Input.TRAILERS},
    }


def test_body_without_headers_says_which_setting_is_missing():
    """Envoy sends this when its filter skips headers."""
    with pytest.raises(ProtocolError, match="set request_header_mode: SEND"):
        advance(Phase.START, MESSAGES[Input.BODY])
