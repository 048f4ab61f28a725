"""A remote judge in full: cut, remembered, guarded, asked, and its verdicts brought back to the texts."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import Protocol

from services.openai.texts import Text
from services.safety.providers import pieces
from services.safety.providers.base import Context, ProviderVerdict
from services.safety.providers.cache import VerdictCache
from services.safety.providers.guard import Breaker, Failure, Guard
from services.safety.providers.pieces import Piece
from services.safety.providers.settings import Settings
from services.safety.providers.shape import unjudged

Judged = tuple[Piece, ProviderVerdict]


class Asker(Protocol):
    """Puts one question, over whatever protocol."""

    @property
    def size(self) -> int:
        """Characters judged at once."""

    @property
    def items(self) -> int:
        """Texts in one call."""

    @property
    def alone(self) -> bool:
        """Whether a verdict on a text does not depend on those beside it."""

    async def ask(self, pieces: Sequence[Piece], context: Context) -> Sequence[ProviderVerdict]:
        """Return one verdict per piece; raise `Failure`."""

    async def close(self) -> None:
        """Give back connections."""


class Judging:
    """The `Provider` around an `Asker`."""

    def __init__(self, name: str, asker: Asker, settings: Settings) -> None:
        if settings.overlap >= asker.size:
            raise ValueError(f"overlap: expected less than the {asker.size} characters judged at once")
        self._asker = asker
        self._settings = settings
        breaker = Breaker(settings.breaker_failures, settings.breaker_seconds)
        self._guard = Guard(name, breaker, settings.attempts, clock=monotonic, rng=random.Random())
        self._cache = VerdictCache(
            settings.cache_entries, settings.cache_seconds, key=secrets.token_bytes(32), clock=monotonic
        )
        self._slots = asyncio.Semaphore(settings.calls)

    async def judge(self, texts: Sequence[Text], context: Context, deadline: float) -> ProviderVerdict:
        """Judge `texts` in as many calls as it takes."""
        settings = self._settings
        wanted = pieces.cut(texts, self._asker.size, settings.overlap, settings.roles)
        known, new = self._remembered(wanted, context)
        calls = (self._call(batch, context, deadline) for batch in _batches(new, self._asker.items))
        for judged in await asyncio.gather(*calls):
            known += judged
        return pieces.back(known, texts)

    async def close(self) -> None:
        """Give back connections."""
        await self._asker.close()

    def _remembered(self, wanted: Sequence[Piece], context: Context) -> tuple[list[Judged], list[Piece]]:
        if not self._asker.alone:
            return [], list(wanted)
        known, new = list[Judged](), list[Piece]()
        for piece in wanted:
            verdict = self._cache.get(piece, context.direction)
            if verdict is None:
                new.append(piece)
            else:
                known.append((piece, verdict))
        return known, new

    async def _call(self, batch: Sequence[Piece], context: Context, deadline: float) -> list[Judged]:
        try:
            async with self._slots:
                verdicts = await self._guard.run(lambda: self._asker.ask(batch, context), deadline)
        except Failure as failure:
            return [(piece, unjudged(failure.state)) for piece in batch]
        judged = list(zip(batch, verdicts, strict=True))
        if self._asker.alone:
            for piece, verdict in judged:
                self._cache.put(piece, context.direction, verdict)
        return judged


def _batches(wanted: Sequence[Piece], items: int) -> Iterator[Sequence[Piece]]:
    for at in range(0, len(wanted), items):
        yield wanted[at : at + items]
