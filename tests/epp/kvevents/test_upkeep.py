"""Listening belongs to a pool's configuration: it starts, stops and is told of with it."""

from __future__ import annotations

import random
import time

from services.epp.app import build
from services.epp.assemble import make_pools
from services.epp.config import EndpointPickerConfig
from services.epp.eds import Changes
from services.epp.labels import Labels
from services.epp.metrics import PrometheusObserver
from services.epp.upkeep import Upkeep
from services.extproc.config import parse
from services.extproc.lifecycle import Parts
from services.extproc.script import Script
from tests.epp.kvevents.test_listener import TELLS, complete, words
from tests.epp.stack import until
from tools.model_server.server import ModelServer, serve

CONFIG = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
pools:
- name: llama
  metrics: {interval_seconds: 0.05}
  endpoints:
  - url: "127.0.0.1:PORT"
    labels: {inference-gateway/kv-events-port: "EVENTS", inference-gateway/kv-replay-port: "REPLAY"}
"""
LISTENS = "  kv_events: {check_seconds: 0.1}\n"
"""Added to the pool."""


def config(server: ModelServer, more: str = "") -> EndpointPickerConfig:
    events = server.core.events
    assert events is not None
    text = CONFIG.replace("PORT", str(server.port)).replace("EVENTS", str(events.port))
    return parse(text.replace("REPLAY", str(events.replay_port)) + more, EndpointPickerConfig)


def sample(parts: Parts, name: str, **labels: str) -> float | None:
    return parts.registry.get_sample_value(name, {"pool": "llama", **labels})


async def test_metrics_and_health_follow_the_views():
    """SERVING under its own name while everything is known; whether requests are taken does not depend on it."""
    async with serve(TELLS) as server:
        await complete(server, words(200))
        parts = Parts()
        async with build(config(server, LISTENS), parts) as app:
            await until(lambda: parts.details["kv_events"].ready and parts.readiness.ready)
            assert sample(parts, "epp_kv_views", state="whole") == 1
            endpoint = f"127.0.0.1:{server.port}"
            await until(lambda: (sample(parts, "epp_kv_blocks", endpoint=endpoint) or 0) >= 12)
            assert (sample(parts, "epp_kv_event_blocks_total", event="stored") or 0) >= 12
            assert (sample(parts, "epp_kv_event_replays_total", outcome="complete") or 0) >= 1
            sent = await Script(app.service).request(
                {"x-gateway-model-name": "m"}, b'{"model":"m","messages":[]}'
            )
            assert sent.set_headers["x-gateway-destination-endpoint"] == endpoint


async def test_a_pool_without_events_has_no_views():
    """Nothing listens, and health has nothing to complain of."""
    async with serve(TELLS) as server:
        parts = Parts()
        async with build(config(server), parts):
            await until(lambda: parts.readiness.ready)
            assert parts.details["kv_events"].ready
            assert sample(parts, "epp_kv_views", state="none") == 1


async def test_a_reload_starts_and_stops_listening():
    """What was told is forgotten with it: nobody would tell of evictions any more."""
    async with serve(TELLS) as server:
        await complete(server, words(200))
        parts, silent, telling = Parts(), config(server), config(server, LISTENS)
        pools = make_pools(silent, time.monotonic)
        pool = pools["llama"]
        observer = PrometheusObserver(parts.registry, Labels())
        async with Upkeep(
            pools, observer=observer, changes=Changes(), parts=parts, rng=random.Random(1)
        ) as upkeep:
            await upkeep.follow(silent)
            await until(lambda: bool(pool.snapshot.servers))
            assert pool.exact.whole(0) is None
            await upkeep.follow(telling)
            await until(lambda: pool.exact.size(0) >= 12)
            await upkeep.follow(silent)
            assert (pool.exact.whole(0), len(pool.exact)) == (None, 0)
