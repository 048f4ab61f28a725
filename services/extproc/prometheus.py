"""Streams as Prometheus metrics. The only module of the package that knows prometheus_client."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import AsyncIterator, Callable, Mapping

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, exposition

from services.extproc.errors import BindError
from services.extproc.observe import StreamRecord

DECISION_BUCKETS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    5.0,
    30.0,
)
"""Seconds: fine where a decision is pure computation, coarse where it waits for a provider or a free server."""


class StreamMetrics:
    """An `Observer` that counts. `service` prefixes every name: `bbr_extproc_streams_total`."""

    def __init__(self, service: str, registry: CollectorRegistry) -> None:
        prefix = f"{service}_extproc"
        self._streams = Counter(
            f"{prefix}_streams", "Finished streams", ["outcome", "reason"], registry=registry
        )
        self._failures = Counter(
            f"{prefix}_failures", "Bugs and breaches of the protocol", ["error"], registry=registry
        )
        self._open = Gauge(f"{prefix}_streams_in_flight", "Streams that are open now", registry=registry)
        self._decision = Histogram(
            f"{prefix}_decision_seconds",
            "Time in the service's decisions, per stream and side",
            ["side"],
            registry=registry,
            buckets=DECISION_BUCKETS,
        )
        self._bytes = Counter(f"{prefix}_body_bytes", "Body bytes received", ["side"], registry=registry)
        self._dropped = Counter(
            f"{prefix}_dropped_header_changes",
            "Streams whose header changes came too late (body mode STREAMED)",
            registry=registry,
        )
        self._sides = {side: (self._decision.labels(side), self._bytes.labels(side)) for side in SIDES}

    def started(self) -> None:
        """Count one more open stream."""
        self._open.inc()

    def failed(self, error: BaseException) -> None:
        """Count a failure by its kind."""
        self._failures.labels(type(error).__name__).inc()

    def ended(self, record: StreamRecord) -> None:
        """Count a finished stream."""
        self._open.dec()
        self._streams.labels(record.outcome.value, record.reason).inc()
        self._side("request", record.request_seconds, record.request_bytes)
        self._side("response", record.response_seconds, record.response_bytes)
        if record.dropped_headers:
            self._dropped.inc()

    def _side(self, side: str, seconds: float, size: int) -> None:
        decision, count = self._sides[side]
        if seconds:
            decision.observe(seconds)
        count.inc(size)


SIDES = ("request", "response")


class ReloadMetrics:
    """How changes of the configuration file went."""

    def __init__(self, service: str, registry: CollectorRegistry) -> None:
        prefix = f"{service}_config"
        self._reloads = Counter(
            f"{prefix}_reloads", "Changed configuration files", ["result"], registry=registry
        )
        self._last = Gauge(
            f"{prefix}_last_reload_successful",
            "Whether the file as it is now is in force; 0: it was refused, and the one before stays",
            registry=registry,
        )
        self._at = Gauge(
            f"{prefix}_last_reload_success_timestamp_seconds",
            "When the configuration in force was read",
            registry=registry,
        )
        self.reloaded(accepted=True, counted=False)

    def reloaded(self, accepted: bool, *, counted: bool = True) -> None:
        """Count a changed file; the one that was there at the start is not counted."""
        if counted:
            self._reloads.labels("success" if accepted else "failure").inc()
        self._last.set(accepted)
        if accepted:
            self._at.set_to_current_time()


@contextlib.asynccontextmanager
async def metrics_port(
    registry: CollectorRegistry, host: str, port: int, pages: Mapping[str, Callable[[], bytes]] | None = None
) -> AsyncIterator[int]:
    """Serve `/metrics` while the block runs; give the port's number. Raises `BindError` when it cannot be had.

    `pages` are JSON by path, looked up when they are asked for, and shown to callers on this machine only.
    """

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = exposition.choose_encoder(request.headers.get("accept", ""))
        return web.Response(body=encode(registry), headers={"content-type": content_type})

    async def page(request: web.Request) -> web.Response:
        make = (pages or {}).get(request.path)
        if make is None or not _is_local(request.remote):
            raise web.HTTPNotFound
        return web.Response(body=make(), content_type="application/json")

    application = web.Application()
    application.router.add_get("/metrics", metrics)
    application.router.add_get("/debug/{name}", page)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await _listen(web.TCPSite(runner, host, port), host, port)
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _is_local(remote: str | None) -> bool:
    try:
        return remote is not None and ipaddress.ip_address(remote).is_loopback
    except ValueError:
        return False


async def _listen(site: web.TCPSite, host: str, port: int) -> None:
    try:
        await site.start()
    except OSError as error:
        raise BindError.on(host, port, error) from error
