"""Where two texts differ. Pure."""

from __future__ import annotations

import os
from typing import NamedTuple


class Change(NamedTuple):
    """The span of one text outside of which another is the same, and by how much the other is longer there."""

    start: int
    end: int
    grows: int


def change(old: str, new: str) -> Change | None:
    """Return the span of `old` that `new` says otherwise; None if they are the same."""
    if old == new:
        return None
    start = _same(old, new)
    rest = min(len(old), len(new)) - start
    end = len(old) - _same(old[::-1][:rest], new[::-1][:rest])
    return Change(start, end, len(new) - len(old))


def _same(one: str, other: str) -> int:
    return len(os.path.commonprefix((one, other)))  # noqa: RUF071 - characters are what is compared here
