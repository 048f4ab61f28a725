"""How plugins do, as metrics and in the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import structlog
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client import Counter as Total

from services.epp.metrics import SCHEDULER_SECONDS
from services.epp.scheduling.watched import Label

_LABELS = ("extension_point", "plugin_type", "plugin_name")
LOG_EVERY = 1000
"""The first error of a plugin is logged with its stack, and then one in so many: it may fail on every request."""


class PluginWatch:
    """A `Watch` over metrics of one registry. `clock` is in seconds."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float]) -> None:
        self.now = clock
        self._seconds = Histogram(
            "inference_extension_plugin_duration_seconds",
            "Duration of a call; one in sixteen of each plugin is timed.",
            _LABELS,
            buckets=SCHEDULER_SECONDS,
            registry=registry,
        )
        self._errors = Total(
            "epp_plugin_errors", "Errors of third parties' plugins, passed over.", _LABELS, registry=registry
        )
        self._counts: Counter[Label] = Counter()
        self._log = structlog.get_logger()

    def took(self, plugin: Label, seconds: float) -> None:
        """Time it."""
        self._seconds.labels(plugin.point.value, plugin.type, plugin.name).observe(seconds)

    def raised(self, plugin: Label, error: Exception) -> None:
        """Count it, and now and then log it."""
        self._errors.labels(plugin.point.value, plugin.type, plugin.name).inc()
        self._counts[plugin] += 1
        if self._counts[plugin] % LOG_EVERY == 1:
            self._log.error(
                "a plugin raised, and is passed over",
                plugin=plugin.name,
                type=plugin.type,
                extension_point=plugin.point.value,
                errors=self._counts[plugin],
                exc_info=error,
            )
