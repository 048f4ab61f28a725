"""Whether Redis can be reached, for metrics, health and the log: told once for each change."""

from __future__ import annotations

from collections.abc import Callable

import structlog


class Condition:
    """Hears how every part of the exchange fares. `report` hears of changes; times are in seconds."""

    def __init__(self, *, clock: Callable[[], float], report: Callable[[bool], None]) -> None:
        self._clock = clock
        self._report = report
        self._failing: dict[str, str] = {}
        self._working: set[str] = set()
        self._since: float | None = clock()
        self._degraded = 0.0
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

    @property
    def up(self) -> bool:
        """Whether everything that was tried lately worked."""
        return self._since is None

    @property
    def degraded_seconds(self) -> float:
        """How long it was not so, in all."""
        return self._degraded + (0.0 if self._since is None else self._clock() - self._since)

    def worked(self, part: str) -> None:
        """Note that `part` got its answer."""
        if part in self._working:
            return
        self._working.add(part)
        self._failing.pop(part, None)
        self._settle()

    def failed(self, part: str, error: BaseException) -> None:
        """Note that `part` did not."""
        first = not self._failing
        self._working.discard(part)
        self._failing[part] = str(error) or type(error).__name__
        if self._since is None:
            self._since = self._clock()
        if first:
            self._log.warning("redis_unreachable", part=part, error=self._failing[part], decisions="local")
            self._report(False)

    def forget(self, part: str) -> None:
        """Stop to count `part`: nobody tries any more. What else works does not wait for it."""
        self._working.discard(part)
        self._failing.pop(part, None)
        self._settle()

    def _settle(self) -> None:
        """Tell when nothing fails any more."""
        if self._failing or not self._working or self._since is None:
            return
        lasted = self._clock() - self._since
        self._degraded += lasted
        self._since = None
        self._log.info("redis_reached", after_seconds=round(lasted, 3))
        self._report(True)
