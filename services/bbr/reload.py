"""Rules that follow the configuration. A request has the old ones or the new ones."""

from __future__ import annotations

from services.bbr.config import Config
from services.bbr.rules import Rules


class LiveRules:
    """A `RuleSource` for the configuration in force."""

    def __init__(self, config: Config) -> None:
        self._started = config.fixed()
        self._rules = config.rules()

    def current(self) -> Rules:
        """Return the rules in force."""
        return self._rules

    async def apply(self, config: Config) -> list[str]:
        """Put the rules of `config` in force; return the keys that wait for a restart."""
        self._rules = config.rules()
        return [name for name, value in config.fixed().items() if value != self._started[name]]
