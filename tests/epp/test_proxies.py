"""A proxy is gone with the last of its streams, and with it what was picked for it."""

from __future__ import annotations

from services.epp.director import Ask
from services.epp.proxies import Proxies, proxy_name
from services.epp.records import Release, Silent
from services.openai.digest import Digest
from tests.epp.world import Clock, director_of, pool_of

ONE, OTHER_PORT, ELSEWHERE = "ipv4:10.0.0.1:41784", "ipv4:10.0.0.1:41798", "ipv4:10.0.0.2:41784"


def test_a_proxy_is_gone_with_its_last_stream():
    """Membership and access log are streams of different connections."""
    gone: list[str] = []
    came: list[str] = []
    proxies = Proxies(gone.append, came.append)
    with proxies.stream(ONE) as named:
        named("gateway-1")
        with proxies.stream(OTHER_PORT) as again:
            again("gateway-1")
            again("")  # only the first message says it
        assert gone == []
        assert proxy_name(ONE, "gateway-1") in proxies
    assert gone == came == [proxy_name(ONE, "gateway-1")]
    assert proxy_name(ONE, "gateway-1") not in proxies


def test_copies_on_other_hosts_are_other_proxies():
    """A deployment of several may give all the same node id."""
    gone: list[str] = []
    proxies = Proxies(gone.append)
    with proxies.stream(ELSEWHERE) as other:
        other("gateway-1")
        with proxies.stream(ONE) as named:
            named("gateway-1")
        assert gone == [proxy_name(ONE, "gateway-1")]


def test_a_stream_that_never_said_whose_it_is_tells_nothing():
    """Nothing was counted for it."""
    gone: list[str] = []
    with Proxies(gone.append).stream(ONE):
        pass
    assert gone == []
    assert proxy_name(ONE, "") == ""


class Releases(Silent):
    def __init__(self) -> None:
        self.seen: list[Release] = []

    def released(self, pool: str, by: Release) -> None:
        self.seen.append(by)


def test_what_was_picked_for_a_proxy_that_is_gone_ends_and_the_rest_stays():
    """Also what flow through other proxies, and through some that do not say who they are."""
    clock, seen = Clock(), Releases()
    pool = pool_of(2, clock)
    director = director_of(pool, clock=clock, observer=seen)
    for proxy in ("10.0.0.1 a", "10.0.0.1 a", "10.0.0.2 a", ""):
        director.pick(Ask(Digest("m"), proxy=proxy))

    director.lost("10.0.0.1 a")

    assert seen.seen == [Release.PROXY_GONE] * 2
    assert [entry.proxy for entry in pool.inflight] == ["10.0.0.2 a", ""]
    assert sum(load.requests for load in pool.inflight.loads) == 2
