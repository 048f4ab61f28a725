"""Put the picker together: configuration → objects → what runs in the background → the gRPC services."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence

import click
import msgspec
import structlog

from services.epp.accesslog import AccessLog
from services.epp.assemble import assemble, make_pools, override_endpoints
from services.epp.config import EndpointPickerConfig
from services.epp.director import Director
from services.epp.eds import Changes, EndpointDiscovery
from services.epp.explain import Journal
from services.epp.flow.control import FlowControl
from services.epp.gauges import FlowCollector, PoolCollector
from services.epp.kvevents.metrics import KvCollector
from services.epp.labels import Labels
from services.epp.metrics import PrometheusObserver
from services.epp.plugin_watch import PluginWatch
from services.epp.proxies import Proxies
from services.epp.reload import Live
from services.epp.rewrites import Rewriter
from services.epp.service import EndpointPicker
from services.epp.state import Alone
from services.epp.state.join import join
from services.epp.state.shared import Shared
from services.epp.upkeep import Upkeep
from services.extproc.background import background
from services.extproc.lifecycle import App, Parts
from services.extproc.main import command
from services.extproc.reload import following


@contextlib.asynccontextmanager
async def build(config: EndpointPickerConfig, parts: Parts) -> AsyncIterator[App]:
    """Build the service and keep its background work running while the block runs."""
    rng = random.Random()
    pools = make_pools(config, time.monotonic)
    labels = Labels()
    observer = PrometheusObserver(parts.registry, labels)
    assembly = assemble(config, watch=PluginWatch(parts.registry, time.perf_counter))
    journal = Journal(keep=config.explain.keep, sample=config.explain.sample, rng=rng, wall=time.time)
    parts.pages["/debug/decisions"] = journal.page
    instance = f"{rng.getrandbits(32):08x}"
    shared = join(config.redis, instance, parts, observer, rng) if config.redis.url else None
    director = Director(
        pools,
        assembly.scheduler,
        detector=assembly.detector,
        objectives=assembly.objectives,
        clock=time.monotonic,
        rng=rng,
        observer=observer,
        state=shared or Alone(),
        instance=instance,
        default_pool=config.default_pool,
        zone=config.zone,
        sheds=assembly.flow is None,
        journal=journal,
    )
    rewriter = Rewriter(rng, assembly.rewrites)
    if config.rewrites:
        structlog.get_logger().info(
            "rewrites_in_force", where="requests whose body comes here without a router's digest"
        )
    flow = None
    if assembly.flow is not None:
        flow = FlowControl(director, assembly.flow, now=time.monotonic, observer=observer)
    parts.registry.register(PoolCollector(pools, director.saturation, labels))
    parts.registry.register(KvCollector(pools))
    if flow is not None:
        parts.registry.register(FlowCollector(flow, pools, director.saturation, labels))
    parts.readiness.set(False)
    changes = Changes()
    upkeep = Upkeep(pools, observer=observer, changes=changes, parts=parts, rng=rng, shared=shared)
    proxies = _proxies(director, shared)
    log = AccessLog(director, observer, proxies)
    # The client closes last: an exchange that still ran would open a connection that nobody closes.
    async with shared or contextlib.nullcontext(), upkeep:
        if shared is not None:
            shared.on_end = log.take
            shared.on_lost = director.lost
            shared.holds = proxies.__contains__
            shared.attend({name: plugin for name, (_, plugin) in assembly.plugins.items()})
            await upkeep.enter_async_context(background(shared.run(), on_failure=upkeep.failed))
        await upkeep.follow(config)
        live = Live(assembly, pools, director, upkeep, rewriter, shared)
        await upkeep.enter_async_context(following("epp", parts, EndpointPickerConfig, live.apply))
        handlers = (log.handler(), EndpointDiscovery(pools, changes, observer, proxies).handler())
        picker = EndpointPicker(
            director,
            flow,
            tokens=upkeep.tokens,
            rewriter=rewriter,
            observer=observer,
            powerless=_powerless,
        )
        yield App(picker, handlers)


def _powerless() -> None:
    structlog.get_logger().warning(
        "eviction_has_no_effect", because="the proxy closes the picker's streams before answers begin"
    )


def _proxies(director: Director, shared: Shared | None) -> Proxies:
    """Return what counts the proxies' streams, and tells the other replicas of those that come and go."""
    if shared is None:
        return Proxies(director.lost)

    def gone(proxy: str) -> None:
        director.lost(proxy)
        shared.proxy_gone(proxy)

    return Proxies(gone, shared.proxy_came)


def override(config: EndpointPickerConfig, flags: Mapping[str, object]) -> EndpointPickerConfig:
    """Put `--endpoint`, `--redis` and `--zone` into the configuration."""
    endpoints, redis, zone = flags.get("endpoint"), flags.get("redis"), flags.get("zone")
    if isinstance(endpoints, Sequence) and endpoints:
        config = override_endpoints(config, [str(endpoint) for endpoint in endpoints])
    if isinstance(redis, str):
        config = msgspec.structs.replace(config, redis=msgspec.structs.replace(config.redis, url=redis))
    if isinstance(zone, str):
        config = msgspec.structs.replace(config, zone=zone)
    return config


main = command(
    "epp",
    EndpointPickerConfig,
    build,
    options=(
        click.Option(
            ["--endpoint"],
            multiple=True,
            metavar="POOL=URL",
            help="Replaces the pool's endpoints; repeatable.",
        ),
        click.Option(
            ["--redis"],
            metavar="URL",
            envvar="INFERENCE_GATEWAY_REDIS",
            help="Where replicas share their state.",
        ),
        click.Option(
            ["--zone"],
            envvar="INFERENCE_GATEWAY_ZONE",
            help="Where this runs, as the servers' zone labels say it.",
        ),
    ),
    override=override,
)
