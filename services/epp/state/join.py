"""Make the shared state that the configuration describes."""

from __future__ import annotations

import os
import random
import socket
import time

from services.epp.config import Redis
from services.epp.metrics import PrometheusObserver
from services.epp.state.client import connect
from services.epp.state.condition import Condition
from services.epp.state.link import Pacing
from services.epp.state.metrics import Lags, StateCollector
from services.epp.state.share import Replica
from services.epp.state.shared import Shared
from services.extproc.lifecycle import Parts
from services.extproc.readiness import Readiness

HEALTH = "shared-state"
"""The health name that is NOT_SERVING while Redis cannot be reached. No balancer asks for it: requests go on."""


def join(
    settings: Redis, instance: str, parts: Parts, observer: PrometheusObserver, rng: random.Random
) -> Shared:
    """Return the state of a replica called `instance`, not yet connected; metrics and health tell how it fares."""
    health = parts.details.setdefault(HEALTH, Readiness(ready=False))

    def report(up: bool) -> None:
        observer.redis(up)
        health.set(up)

    clock = time.monotonic
    condition = Condition(clock=clock, report=report)
    pacing = Pacing(
        timeout=settings.timeout_seconds,
        batch=settings.batch_seconds,
        lease=settings.lease_seconds,
        length=settings.stream_length,
        warm=settings.warm_start_seconds,
    )
    shared = Shared(
        connect(settings),
        Replica(instance, f"{socket.gethostname()}:{os.getpid()}", clock()),
        prefix=settings.prefix,
        pacing=pacing,
        limit=settings.buffer_entries,
        clock=clock,
        rng=rng,
        condition=condition,
        lags=Lags(parts.registry),
    )
    parts.registry.register(StateCollector(shared.shares, lambda: condition.degraded_seconds))
    return shared
