"""What a configuration can name: one table, and an entry-point group for plugins from elsewhere."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points

import msgspec

from services.epp.scheduling.interfaces import Detector, Filter, Picker, Scorer
from services.epp.scheduling.pickers.max_score import MaxScore
from services.epp.scheduling.saturation import Utilization
from services.epp.scheduling.scorers.kv_cache import KvCacheUtilization
from services.epp.scheduling.scorers.lora_affinity import LoraAffinity
from services.epp.scheduling.scorers.prefix_cache import PrefixCache
from services.epp.scheduling.scorers.queue import Queue
from services.epp.scheduling.scorers.request_load import RequestLoad

ENTRY_POINTS = "inference_gateway.epp.plugins"
"""The group under which a package names its plugins: `my-scorer = "my_package:MyScorer"`."""

Plugin = Filter | Scorer | Picker | Detector


@dataclasses.dataclass(frozen=True, slots=True)
class SingleProfileHandler:
    """The reference's `single-profile-handler`, and the only handler so far: one profile decides every request."""


BUILTIN: Mapping[str, Callable[..., object]] = {
    # Readiness and the subset hint are no choice: the director applies those filters to every request.
    "queue-scorer": Queue,
    "request-load-scorer": RequestLoad,
    "kv-cache-utilization-scorer": KvCacheUtilization,
    "prefix-cache-scorer": PrefixCache,
    "lora-affinity-scorer": LoraAffinity,
    "max-score-picker": MaxScore,
    "single-profile-handler": SingleProfileHandler,
    "utilization-detector": Utilization,
}


class PluginError(ValueError):
    """A plugin's type or parameters cannot be used. The message begins with where in the plugin's entry."""


def build(
    kind: str,
    parameters: Mapping[str, object],
    *,
    installed: Callable[[], Iterable[EntryPoint]] | None = None,
) -> object:
    """Make a plugin of type `kind`. Parameters are the factory's fields, in camel case as the reference spells them.

    `installed` lists the entry points of `ENTRY_POINTS`; they are looked at only for a name that is not built in, and
    loaded only when named.
    """
    factory = BUILTIN.get(kind) or _outside(kind, installed or _installed)
    try:
        return factory(**_arguments(factory, parameters))
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, PluginError) else PluginError(f"parameters: {error}") from error


def _installed() -> Iterable[EntryPoint]:
    return entry_points(group=ENTRY_POINTS)


def _outside(kind: str, installed: Callable[[], Iterable[EntryPoint]]) -> Callable[..., object]:
    found = [point for point in installed() if point.name == kind]
    if len(found) > 1:
        raise PluginError(f"type: {kind!r} comes from more than one installed package")
    if not found:
        raise PluginError(f"type: no plugin {kind!r}; built in are {', '.join(sorted(BUILTIN))}")
    factory = found[0].load()
    if not callable(factory):
        raise PluginError(f"type: entry point {kind!r} is no class or function")
    return typing.cast("Callable[..., object]", factory)


def _arguments(factory: Callable[..., object], parameters: Mapping[str, object]) -> dict[str, object]:
    names = {_camel(name): name for name in inspect.signature(factory).parameters}
    unknown = sorted(parameters.keys() - names.keys())
    if unknown:
        raise PluginError(f"parameters.{unknown[0]}: unknown; known are {', '.join(sorted(names)) or 'none'}")
    hints = typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    return {names[key]: _convert(key, value, hints.get(names[key])) for key, value in parameters.items()}


def _convert(key: str, value: object, kind: object) -> object:
    try:
        return value if kind is None else msgspec.convert(value, type=kind)
    except msgspec.ValidationError as error:
        raise PluginError(f"parameters.{key}: {error}") from error


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
