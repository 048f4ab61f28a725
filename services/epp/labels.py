"""Label values that clients choose, bounded: they must not fill a metrics store."""

from __future__ import annotations

MOST = 1000
"""Different values of one label, as in the reference."""
OTHER = "other"


class Capped:
    """The first `most` different values as they are; further ones are all `other`."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        """Return `value` as a label value."""
        if value not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(value)
        return value


class Labels:
    """Of one process: the same names are known to all of its metrics."""

    def __init__(self) -> None:
        self.model = Capped()
        self.fairness = Capped()
