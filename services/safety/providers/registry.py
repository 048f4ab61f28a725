"""Which remote judges a configuration can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points

from services.safety.checks.registry import Parameters
from services.safety.providers import (
    airs,
    azure,
    bedrock,
    contract,
    guard_model,
    lakera,
    litellm,
    llm_guard,
    model_armor,
    nemo,
    openai_moderations,
    presidio,
    webhook,
)
from services.safety.providers.base import Provider

GROUP = "inference_gateway.safety.providers"
"""The entry-point group of other packages' providers."""

ProviderFactory = Callable[[Parameters], Provider]
"""Makes a provider of its parameters; raises `ValueError` for parameters that are wrong."""

PROVIDERS: Mapping[str, ProviderFactory] = {
    contract.NAME: contract.make,
    model_armor.NAME: model_armor.make,
    openai_moderations.NAME: openai_moderations.make,
    litellm.NAME: litellm.make,
    nemo.NAME: nemo.make,
    webhook.NAME: webhook.make,
    azure.CONTENT: azure.make_content,
    azure.SHIELDS: azure.make_shields,
    bedrock.NAME: bedrock.make,
    lakera.NAME: lakera.make,
    airs.NAME: airs.make,
    presidio.NAME: presidio.make,
    llm_guard.NAME: llm_guard.make,
    guard_model.NAME: guard_model.make,
}
"""Our own provider types."""


def provider_types() -> dict[str, ProviderFactory]:
    """Return our own provider types and those of installed packages; a name that is taken raises `ValueError`."""
    found = dict(PROVIDERS)
    for entry in entry_points(group=GROUP):
        if entry.name in found:
            raise ValueError(f"provider type {entry.name!r} of {entry.value} is already taken")
        found[entry.name] = entry.load()
    return found
