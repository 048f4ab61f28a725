from __future__ import annotations

import contextlib
import json
import socket

from tools.gateway.probes import accepts, get, pongs, usable_members


def host(port: int, **health: bool) -> dict[str, object]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {"address": address, "health_status": {"eds_health_status": "HEALTHY", **health}}


def test_members_count_once_envoy_finds_them_healthy():
    """A host whose health check has not passed yet is there, but of no use."""
    internal = {"address": {"envoy_internal_address": {"server_listener_name": "legs"}}, "health_status": {}}
    reply = {
        "cluster_statuses": [
            {"name": "epp", "host_statuses": [host(9002, failed_active_health_check=True)]},
            {"name": "pool-a", "host_statuses": [host(1), host(2)]},
            {"name": "pool-b"},
            {"name": "legs", "host_statuses": [internal]},
        ]
    }
    assert usable_members(json.dumps(reply).encode()) == {
        "epp": [],
        "pool-a": ["127.0.0.1:1", "127.0.0.1:2"],
        "pool-b": [],
        "legs": [],
    }


async def test_where_nobody_listens_the_answer_is_no_and_not_an_error():
    """Probes are asked long before anything is up."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        assert await accepts(port)
    assert not await accepts(port)
    assert not await pongs(port)
    assert await get(f"http://127.0.0.1:{port}/ready") is None
