"""Runs the safety service: `python -m services.safety --config config/safety.yaml`."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator

from services.extproc.config import ConfigError
from services.extproc.lifecycle import App, Parts
from services.extproc.main import command
from services.safety.assemble import assemble
from services.safety.audit import AuditLog, Observers
from services.safety.checks.registry import Parameters, check_types
from services.safety.config import SafetyConfig
from services.safety.metrics import PrometheusObserver
from services.safety.providers.base import Provider
from services.safety.providers.registry import ProviderFactory, provider_types
from services.safety.service import Safety

_KEY_BYTES = 32


@contextlib.asynccontextmanager
async def build(config: SafetyConfig, parts: Parts) -> AsyncIterator[App]:
    """Make the service and its providers; close them when the block ends."""
    types = provider_types()
    assembled = assemble(config, check_types(), types)
    observer = Observers((AuditLog(), PrometheusObserver(parts.registry, assembled.rules)))
    key = config.audit_key.encode() or secrets.token_bytes(_KEY_BYTES)
    async with contextlib.AsyncExitStack() as stack:
        providers = {}
        for name, plugin in config.providers.items():
            providers[name] = _provider(name, types[plugin.type], plugin.parameters)
            stack.push_async_callback(providers[name].close)
        yield App(Safety(assembled.policies, observer, key, providers))


def _provider(name: str, factory: ProviderFactory, parameters: Parameters) -> Provider:
    try:
        return factory(parameters)
    except ValueError as error:
        raise ConfigError(f"providers.{name}.parameters: {error}") from error


main = command("safety", SafetyConfig, build)

if __name__ == "__main__":
    main()
