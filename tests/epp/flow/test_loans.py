"""Places at servers that may have to be given back."""

from __future__ import annotations

import pytest

from services.epp.flow.loans import ENOUGH, Chances, Loans
from services.extproc.errors import Overloaded


def test_the_lowest_priority_gives_first_and_of_those_the_newest():
    """And only to a higher one."""
    loans = Loans()
    old, low, new, least = (loans.lend(name, p) for name, p in (("a", -1), ("b", -2), ("c", -1), ("d", -2)))

    order = []
    while (loan := loans.first(below=0)) is not None:
        order.append(loan)
        loan.settle()
    assert order == [least, low, new, old]
    again = loans.lend("e", -1)
    assert loans.first(below=-1) is None
    assert loans.first(below=10) is again


async def test_what_is_taken_back_says_why_and_is_taken_once():
    """Settled ones are not taken at all; settling twice does no harm."""
    loans, error = Loans(), Overloaded("no", reason="evicted")
    one, other = loans.lend("a", -1), loans.lend("b", -1)
    one.take(error)
    other.settle()
    other.settle()

    assert await one.taken() is error
    assert (one.error, other.error) == (error, None)
    assert len(loans) == 0
    assert loans.first(below=9) is None


async def test_a_loan_without_a_reason_is_a_bug():
    """Nobody could tell the client anything."""
    loan = Loans().lend("a", -1)
    loan._taken.set()
    with pytest.raises(RuntimeError):
        await loan.taken()


@pytest.mark.parametrize(("begun", "calls"), [(False, 1), (True, 0)])
def test_it_is_told_once_that_nothing_can_be_taken_back(begun, calls):
    """When streams end with the pick, and not when a few clients leave."""
    told: list[bool] = []
    chances = Chances(lambda: told.append(True))
    for number in range(3 * ENOUGH):
        if begun and number == ENOUGH - 1:
            chances.begun()
        chances.ended()
    assert len(told) == calls
