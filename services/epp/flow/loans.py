"""Sheddable requests at servers that can still be taken back: their answer has not begun."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.extproc.errors import ExtProcError

ENOUGH = 10
"""Streams that end with the pick, and no other, before that is taken for the filter's way and not for clients that left."""


class Chances:
    """Whether streams last until answers begin: else nothing can be taken back, and `lacking` is called once."""

    def __init__(self, lacking: Callable[[], None]) -> None:
        self._lacking = lacking
        self._without: int | None = 0

    def begun(self) -> None:
        """Note that a stream lasted until an answer began."""
        self._without = None

    def ended(self) -> None:
        """Note that one ended before."""
        if self._without is not None:
            self._without += 1
            if self._without == ENOUGH:
                self._lacking()


class Loan:
    """A place at a server that may have to be given back. Whoever takes one calls `settle` in the end."""

    def __init__(self, loans: Loans, decision: str, priority: int) -> None:
        self.decision = decision
        self.priority = priority
        self.error: ExtProcError | None = None
        """What the client is told; None as long as it is not taken back."""
        self._loans = loans
        self._taken = asyncio.Event()

    async def taken(self) -> ExtProcError:
        """Wait until it is taken back."""
        await self._taken.wait()
        if self.error is None:
            raise RuntimeError("taken back without a reason")
        return self.error

    def settle(self) -> None:
        """Keep the place: the answer has begun, or the request has ended."""
        self._loans.remove(self)

    def take(self, error: ExtProcError) -> None:
        """Take it back."""
        self._loans.remove(self)
        self.error = error
        self._taken.set()


class Loans:
    """Those of one pool, oldest first."""

    def __init__(self) -> None:
        self._all: dict[str, Loan] = {}

    def __len__(self) -> int:
        return len(self._all)

    def lend(self, decision: str, priority: int) -> Loan:
        """Note a request that was just sent."""
        loan = self._all[decision] = Loan(self, decision, priority)
        return loan

    def remove(self, loan: Loan) -> None:
        """Forget one; nothing happens when it is not known any more."""
        self._all.pop(loan.decision, None)

    def first(self, *, below: int) -> Loan | None:
        """Return what to take back first for a request of priority `below`; None without any.

        The lowest priority, and of those the newest: least of its work is lost.
        """
        lower = [loan for loan in reversed(self._all.values()) if loan.priority < below]
        return min(lower, key=_priority, default=None)


def _priority(loan: Loan) -> int:
    return loan.priority
