"""What the user sees while it works: on stderr, so that stdout holds the ready line and what follows alone."""

from __future__ import annotations

import time
from collections.abc import Callable

import rich.console
import rich.status


class Console:
    """Progress as a spinner on a terminal, as plain lines elsewhere."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, to: rich.console.Console | None = None
    ) -> None:
        self._to = to or rich.console.Console(stderr=True, highlight=False)
        self._clock = clock
        self._start = clock()
        self._status: rich.status.Status | None = None

    def say(self, text: str) -> None:
        """Print a line, ending a spinner."""
        self._end_status()
        self._to.print(text, markup=False, soft_wrap=True)

    def wait_for(self, what: str) -> None:
        """Show that `what` is being waited for. Silent without a terminal: `done` will say it."""
        if self._to.is_terminal:
            self._end_status()
            self._status = self._to.status(f"waiting for {what}")
            self._status.start()

    def done(self, what: str) -> None:
        """Say that `what` is there, and after how many seconds."""
        self.say(f"{self._clock() - self._start:5.1f} s  {what}")

    def _end_status(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
