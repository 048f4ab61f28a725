"""Prefill and decode apart: who is chosen, when, and what the server is told."""

from __future__ import annotations

import random

import pytest

from services.epp.scheduling.handlers.deciders import AlwaysDisaggregate, Multimodal, PrefixBased
from services.epp.scheduling.handlers.disagg import Deciders, Disagg, Profiles, pd_profile
from services.epp.scheduling.interfaces import Scheduler, Situation
from services.openai.digest import Digest
from tests.epp.scheduling.handlers.world import Fixed
from tests.epp.scheduling.world import NOW, server, situation

SERVERS = [server(0), server(1)]
ALWAYS = Disagg(deciders=Deciders(prefill="always"))


def bind(decode: Fixed, prefill: Fixed) -> Scheduler:
    return ALWAYS.bind({"decode": decode, "prefill": prefill}, {"always": AlwaysDisaggregate()})


def test_the_request_goes_to_the_decoder_and_names_the_prefiller():
    """In the header that llm-d's sidecar reads; both profiles learn of it."""
    decode, prefill = Fixed("decode", (0,)), Fixed("prefill", (1,))
    scheduler = bind(decode, prefill)
    decision = scheduler.run(situation(), SERVERS, random.Random(1))

    assert decision.servers == (SERVERS[0],)
    assert decision.headers == (("x-prefiller-host-port", "10.0.0.2:8000"),)
    assert scheduler.chosen(situation(), decision) == (("x-decode", "yes"), ("x-prefill", "yes"))
    assert (decode.told, prefill.told) == ([SERVERS[0]], [SERVERS[1]])


def test_the_prefill_profile_knows_who_will_decode():
    """For scorers by topology."""
    prefill = Fixed("prefill", (1,))
    bind(Fixed("decode"), prefill).run(situation(), SERVERS, random.Random(1))

    assert [request.peer for request in prefill.asked] == [SERVERS[0]]


@pytest.mark.parametrize("positions", [(), (0,)])
def test_without_another_server_the_decoder_does_it_all(positions):
    """No prefiller at all, or the same one."""
    decision = bind(Fixed("decode"), Fixed("prefill", positions)).run(situation(), SERVERS, random.Random(1))

    assert decision.servers == (SERVERS[0],)
    assert decision.headers == ()


def test_images_may_have_servers_of_their_own():
    """The sidecar shares them out; the request itself still goes to the decoder."""
    encode = Fixed("encode", (1, 2))
    handler = Disagg(deciders=Deciders(prefill="always", encode="images"))
    plugins = {"always": AlwaysDisaggregate(), "images": Multimodal()}
    profiles = {"decode": Fixed("decode"), "prefill": Fixed("prefill", (1,)), "encode": encode}
    scheduler, servers = handler.bind(profiles, plugins), [server(number) for number in range(3)]
    pictures = Situation(Digest("m", prompt_bytes=90_000, tokens=1100), NOW)
    decision = scheduler.run(pictures, servers, random.Random(1))

    assert decision.servers == (servers[0],)
    assert decision.headers == (
        ("x-prefiller-host-port", "10.0.0.2:8000"),
        ("x-encoder-hosts-ports", "10.0.0.2:8000,10.0.0.3:8000"),
    )
    assert decision.stages == "encode-prefill-decode"
    assert scheduler.chosen(pictures, decision)[-1] == ("x-encode", "yes")
    assert encode.asked[0].peer == servers[0]
    plain = scheduler.run(situation(), servers, random.Random(1))
    assert (plain.stages, len(encode.asked)) == ("prefill-decode", 1)


def test_a_decision_tells_its_stages():
    """For the reference's counter; nothing where no handler decides on stages."""
    alone = bind(Fixed("decode"), Fixed("prefill", ())).run(situation(), SERVERS, random.Random(1))
    assert alone.stages == "decode-only"
    assert Fixed("decode").run(situation(), SERVERS, random.Random(1)).stages == ""


def test_the_older_handler_means_the_same():
    """`pd-profile-handler` spells its parameters otherwise."""
    old = pd_profile(decode_profile="d", decider_plugin_name="x")
    assert old == Disagg(Profiles(decode="d"), Deciders(prefill="x"))


def test_without_a_decoder_the_request_is_refused():
    """Prefill is not even asked."""
    prefill = Fixed("prefill")
    decision = bind(Fixed("decode", ()), prefill).run(situation(), SERVERS, random.Random(1))

    assert decision.servers == ()
    assert prefill.asked == []


def test_without_a_decider_the_decode_profile_decides_alone():
    """The prefill profile need not exist."""
    decode = Fixed("d")

    assert Disagg(profiles=Profiles(decode="d")).bind({"d": decode}, {}) is decode


@pytest.mark.parametrize(
    ("profiles", "plugins", "message"),
    [
        ({}, {}, "profiles.decode: no profile 'decode'"),
        ({"decode": Fixed("decode")}, {}, "deciders.prefill: 'always' is no decider"),
        ({"decode": Fixed("decode")}, {"always": 7}, "deciders.prefill: 'always' is no decider"),
        (
            {"decode": Fixed("decode")},
            {"always": AlwaysDisaggregate()},
            "profiles.prefill: no profile 'prefill'",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(profiles, plugins, message):
    """At the start, with the parameter."""
    with pytest.raises(ValueError, match=message):
        ALWAYS.bind(profiles, plugins)


@pytest.mark.parametrize(
    ("threshold", "matched", "expected"),
    [(0, 0, False), (512, 0, True), (513, 0, False), (256, 16, True), (257, 16, False)],
)
def test_prefill_apart_is_for_what_is_not_cached(threshold, matched, expected):
    """A prompt of 512 tokens; 16 blocks of 64 bytes are 256 tokens that the decoder has. 0 is never."""
    digest = Digest("m", prompt_bytes=2048, blocks=tuple(range(32)))
    request = Situation(digest, NOW, matches={0: matched})

    assert PrefixBased(threshold).disaggregate(request, SERVERS[0]) is expected
