"""Rules from a file, read again when it changes. A file that is wrong changes nothing but what is said about it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from services.bbr.rules import Rules
from services.extproc.config import ConfigError


class FollowedRules:
    """A `RuleSource` whose rules follow a text.

    `read` and `parse` run in a thread and raise `ConfigError`; `report` hears of each change once: an error, or None.
    The text itself is compared, not its time of change: it is small, and two writes within the clock's tick, or a
    mounted directory that is swapped, leave no doubt.
    """

    def __init__(
        self, read: Callable[[], str], parse: Callable[[str], Rules], report: Callable[[str | None], None]
    ) -> None:
        self._read = read
        self._parse = parse
        self._report = report
        self._seen = read()
        self._rules = parse(self._seen)

    def current(self) -> Rules:
        """Return the rules of the last good text."""
        return self._rules

    async def follow(
        self, interval: float, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        """Look every `interval` seconds, for ever."""
        while True:
            await sleep(interval)
            await self.look()

    async def look(self) -> None:
        """Read the text; take its rules if it is another one and right."""
        rules, seen, error = await asyncio.to_thread(self._load)
        if seen == self._seen:
            return
        self._seen = seen
        if rules is not None:
            self._rules = rules  # one reference: a request has the old rules or the new ones
        self._report(error)

    def _load(self) -> tuple[Rules | None, str, str | None]:
        """Return new rules, what was seen, and what is wrong with it. A file that is gone is seen as its error."""
        text = ""
        try:
            text = self._read()
            return (None if text == self._seen else self._parse(text)), text, None
        except ConfigError as error:
            return None, text or str(error), str(error)
