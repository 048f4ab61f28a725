"""Which plugins a configuration can name: ours, and those of installed packages by entry point."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points

import msgspec

from services.bbr.plugins import BaseModelToHeader, BodyFieldToHeader, OnError, RequestPlugin, ResponsePlugin

ENTRY_POINTS = "inference_gateway.bbr.plugins"
"""The group under which a package names its plugins: `my-plugin = "my_package:MyPlugin"`."""

Factory = Callable[..., object]
Plugin = RequestPlugin | ResponsePlugin

BUILTIN: Mapping[str, Factory] = {
    "body-field-to-header": BodyFieldToHeader,
    "base-model-to-header": BaseModelToHeader,
}


class PluginError(ValueError):
    """A plugin's type or parameters cannot be used."""


def build(
    kind: str,
    parameters: Mapping[str, object],
    *,
    installed: Callable[[], Iterable[EntryPoint]] = lambda: entry_points(group=ENTRY_POINTS),
) -> Plugin:
    """Make a plugin. `parameters` are the factory's, in camel case as the reference spells them.

    Entry points are looked at only for a name that is not built in, and loaded only when named.
    """
    factory = BUILTIN.get(kind) or _outside(kind, installed())
    try:
        plugin = factory(**_arguments(factory, parameters))
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, PluginError) else PluginError(f"{kind}: {error}") from error
    if not isinstance(plugin, (RequestPlugin, ResponsePlugin)):
        raise PluginError(f"{kind}: it has neither `request` nor `response`")
    return plugin


def declared(plugin: Plugin) -> OnError:
    """Return what the plugin says of its failures; nothing said means closed."""
    return OnError(getattr(plugin, "on_error", OnError.CLOSED))


def _outside(kind: str, installed: Iterable[EntryPoint]) -> Factory:
    found = [point for point in installed if point.name == kind]
    if len(found) > 1:
        raise PluginError(f"{kind}: more than one installed package has it")
    if not found:
        raise PluginError(f"{kind}: no such plugin; built in are {', '.join(sorted(BUILTIN))}")
    factory = found[0].load()
    if not callable(factory):
        raise PluginError(f"{kind}: its entry point is no class or function")
    return typing.cast("Factory", factory)


def _arguments(factory: Factory, parameters: Mapping[str, object]) -> dict[str, object]:
    names = {_camel(name): name for name in inspect.signature(factory).parameters}
    if unknown := sorted(parameters.keys() - names.keys()):
        raise PluginError(f"{unknown[0]}: no parameter; there are {', '.join(sorted(names)) or 'none'}")
    hints = typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    return {
        names[key]: msgspec.convert(value, type=hints.get(names[key], object))
        for key, value in parameters.items()
    }


def _camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda match: match[1].upper(), name)
