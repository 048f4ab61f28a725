"""What a request asks for besides its prompt: whose it is, and how long it waits."""

from __future__ import annotations

import pytest

from services.epp.asking import ask_of
from services.extproc.errors import BadRequest
from services.extproc.events import Headers, Request
from services.openai.digest import Digest


def request(*headers: tuple[str, str]) -> Request:
    return Request(Headers(headers), None)


@pytest.mark.parametrize("name", ["x-gateway-inference-fairness-id", "x-llm-d-inference-fairness-id"])
def test_a_fairness_id_has_two_names(name):
    """The flow of requests without one is the reference's `default-flow`."""
    assert ask_of(request((name, "tenant")), "", Digest("m")).fairness == "tenant"
    assert ask_of(request(), "", Digest("m")).fairness == "default-flow"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (("x-gateway-request-ttl-ms", "1500"), 1.5),
        (("x-gateway-request-ttl-ms", "0"), 0.0),
        (("x-llm-d-inference-ttl", "1m30s"), 90.0),
        (("other", "1"), None),
    ],
)
def test_a_client_says_how_long_it_waits(header, expected):
    """In milliseconds, or as the reference writes it."""
    assert ask_of(request(header), "", Digest("m")).ttl == expected


@pytest.mark.parametrize(
    "header",
    [
        ("x-gateway-request-ttl-ms", "soon"),
        ("x-gateway-request-ttl-ms", "-1"),
        ("x-gateway-request-ttl-ms", "9" * 400),
        ("x-llm-d-inference-ttl", "0s"),
        ("x-slo-ttft-ms", "1e3"),
    ],
)
def test_a_time_that_is_none_is_a_400(header):
    """Rather than waiting for some other time."""
    with pytest.raises(BadRequest) as refusal:
        ask_of(request(header), "", Digest("m"))
    assert refusal.value.param == header[0]
