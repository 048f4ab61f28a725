"""Runs the safety service: `python -m services.safety --config config/safety.yaml`."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime

from services.extproc.config import ConfigError
from services.extproc.lifecycle import App, Parts
from services.extproc.main import command
from services.extproc.reload import following
from services.safety.assemble import Assembled, assemble
from services.safety.audit import AuditLog, Observers
from services.safety.audit_config import AuditConfig
from services.safety.audit_redis import RedisWriter
from services.safety.audit_sinks import FileWriter, Sink, Writer
from services.safety.audit_versions import Versions
from services.safety.checks.registry import Parameters, check_types
from services.safety.config import SafetyConfig
from services.safety.facades.server import serving
from services.safety.metrics import PrometheusObserver
from services.safety.providers.base import Provider
from services.safety.providers.registry import ProviderFactory, provider_types
from services.safety.reload import LivePolicies
from services.safety.service import Safety
from services.safety.shadow import Shadows

_KEY_BYTES = 32


@contextlib.asynccontextmanager
async def build(config: SafetyConfig, parts: Parts) -> AsyncIterator[App]:
    """Make the service and its providers; close them when the block ends."""
    types = provider_types()
    assembled = assemble(config, check_types(), types)
    metrics = PrometheusObserver(parts.registry, assembled.rules, config.providers)
    key = config.audit_key.encode() or secrets.token_bytes(_KEY_BYTES)
    async with contextlib.AsyncExitStack() as stack:
        sinks = audit_sinks(config.audit, assembled.versions, metrics.dropped)
        for sink in sinks:
            await stack.enter_async_context(sink.running())
        observer = Observers((AuditLog(), metrics, *sinks))
        providers = {}
        for name, plugin in config.providers.items():
            providers[name] = _provider(name, types[plugin.type], plugin.parameters)
            stack.push_async_callback(providers[name].close)
        shadows = Shadows(metrics.shadow_dropped)
        await stack.enter_async_context(shadows.running())
        service = Safety(assembled.policies, observer, key, providers, nonce=_nonce, shadows=shadows)
        live = LivePolicies(
            config,
            compile_=lambda changed: assemble(changed, check_types(), types),
            use=_Changes(service, metrics, sinks).use,
        )
        follow = following("safety", parts, SafetyConfig, live.apply, others=live.files)
        await stack.enter_async_context(follow)
        await stack.enter_async_context(serving(service, config.facades))
        yield App(service)


class _Changes:
    """Brings new policies to all that use the old."""

    def __init__(self, service: Safety, metrics: PrometheusObserver, sinks: Sequence[Sink]) -> None:
        self._service = service
        self._metrics = metrics
        self._sinks = sinks

    def use(self, assembled: Assembled) -> None:
        self._service.policies = assembled.policies
        self._metrics.know(assembled.rules)
        for sink in self._sinks:
            sink.versions = assembled.versions


def _nonce() -> str:
    return secrets.token_hex(2)


def audit_sinks(config: AuditConfig, versions: Versions, dropped: Callable[[str], None]) -> list[Sink]:
    """Return the sinks that `config` names, each to be run."""
    writers: dict[str, Writer] = {}
    if config.file is not None:
        writers["file"] = FileWriter(config.file)
    if config.redis is not None:
        writers["redis"] = RedisWriter(config.redis)
    return [
        Sink(name, writer, versions, limit=config.buffer, dropped=dropped, now=_now)
        for name, writer in writers.items()
    ]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _provider(name: str, factory: ProviderFactory, parameters: Parameters) -> Provider:
    try:
        return factory(parameters)
    except ValueError as error:
        raise ConfigError(f"providers.{name}.parameters: {error}") from error


main = command("safety", SafetyConfig, build)

if __name__ == "__main__":
    main()
