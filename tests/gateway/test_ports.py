from __future__ import annotations

import contextlib
import socket

import pytest

from tools.gateway.ports import PortError, Ports, require_free


def test_the_usual_ports_are_the_documented_ones():
    """What the README and the compose file say."""
    named = dict(Ports.at().named(servers=5, redis=True))
    assert named["gateway"] == 8080
    assert named["Envoy's admin"] == 9901
    assert (named["bbr"], named["bbr's health"], named["bbr's metrics"]) == (9004, 9005, 9094)
    assert (named["safety"], named["safety's health"], named["safety's metrics"]) == (9006, 9007, 9096)
    assert (named["epp"], named["epp's health"], named["epp's metrics"]) == (9002, 9003, 9092)
    assert named["redis"] == 6390
    assert [named[f"model server {n}"] for n in range(1, 6)] == [8101, 8102, 8103, 8104, 8105]


def test_replicas_of_the_picker_have_blocks_of_their_own():
    """The first keeps the usual ports; as many as may be clash with nothing."""
    named = dict(Ports.at().named(servers=5, redis=True, replicas=32))
    assert (named["epp"], named["epp's health"], named["epp's metrics"]) == (9002, 9003, 9092)
    assert (named["epp-2"], named["epp-2's health"], named["epp-2's metrics"]) == (9200, 9201, 9202)
    assert named["epp-3"] == 9203
    assert len(set(named.values())) == len(named) == 2 + 3 * (2 + 32) + 1 + 5


def test_an_offset_moves_every_port():
    """Two stacks run side by side."""
    usual = dict(Ports.at().named(servers=5, redis=True, replicas=3))
    moved = dict(Ports.at(offset=1000).named(servers=5, redis=True, replicas=3))
    assert {name: port + 1000 for name, port in usual.items()} == moved


def test_a_port_moves_the_gateway_alone():
    """`--port` is what clients see; the offset still adds to it."""
    assert Ports.at(9000, 100).gateway == 9100
    assert Ports.at(9000, 100).admin == Ports.at(offset=100).admin


def test_without_mocks_and_redis_their_ports_may_be_taken():
    """Only what this stack opens has to be free."""
    assert set(dict(Ports.at().named(servers=0, redis=False))) == {
        *("gateway", "Envoy's admin", "bbr", "bbr's health", "bbr's metrics"),
        *("safety", "safety's health", "safety's metrics", "epp", "epp's health", "epp's metrics"),
    }


def test_every_taken_port_is_named_at_once():
    """The user mends all of them in one go."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortError, match=rf"port in use: {port} \(gateway\)"):
            require_free([("gateway", port)])
        with pytest.raises(PortError, match=rf"ports in use: {port} \(a\), {port} \(b\)|two purposes"):
            require_free([("a", port), ("b", port)])


@pytest.mark.parametrize("port", [0, 65536, -5])
def test_a_port_out_of_range_is_refused(port):
    """Before anything tries to bind it."""
    with pytest.raises(PortError, match="no such port"):
        require_free([("gateway", port)])


def test_one_port_for_two_purposes_is_refused():
    """`--port 9004` would take BBR's."""
    with pytest.raises(PortError, match=r"two purposes: 9004 \(gateway\), 9004 \(bbr\)"):
        require_free(list(Ports.at(9004).named(servers=0, redis=False)))
