"""Verdicts on single texts, so that each message of a growing conversation is judged once. No text is kept."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable

from services.safety.providers.base import ProviderVerdict
from services.safety.providers.pieces import Piece
from services.safety.verdict import Direction, State

_DIGEST = 16  # bytes


class VerdictCache:
    """Bounded by number and age, oldest use first out. Belongs to one configured provider, as its verdicts do."""

    def __init__(self, entries: int, seconds: float, *, key: bytes, clock: Callable[[], float]) -> None:
        self._entries = entries
        self._seconds = seconds
        self._key = key
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[float, ProviderVerdict]] = OrderedDict()

    def get(self, piece: Piece, direction: Direction) -> ProviderVerdict | None:
        """Return what was said of this text in this role before."""
        digest = self._digest(piece, direction)
        found = self._known.get(digest)
        if found is None:
            return None
        if found[0] <= self._clock():
            del self._known[digest]
            return None
        self._known.move_to_end(digest)
        return found[1]

    def put(self, piece: Piece, direction: Direction, verdict: ProviderVerdict) -> None:
        """Remember `verdict`, if it is one: a failure is not."""
        if verdict.state is not State.JUDGED or not self._seconds or not self._entries:
            return
        self._known[self._digest(piece, direction)] = (self._clock() + self._seconds, verdict)
        while len(self._known) > self._entries:
            self._known.popitem(last=False)

    def _digest(self, piece: Piece, direction: Direction) -> bytes:
        hashed = hashlib.blake2b(digest_size=_DIGEST, key=self._key)
        hashed.update(f"{direction.value}\0{piece.role}\0".encode("utf-8", "surrogatepass"))
        hashed.update(piece.value.encode("utf-8", "surrogatepass"))
        return hashed.digest()
