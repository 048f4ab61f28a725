"""A refused client is told when there will be room."""

from __future__ import annotations

import pytest

from services.epp.director import Ask
from services.epp.retry_after import retry_after
from services.epp.scheduling.saturation import Concurrency
from services.extproc.errors import Overloaded
from services.openai.digest import Digest
from tests.epp.world import Clock, director_of, pool_of


@pytest.mark.parametrize(
    ("busy", "seconds", "waiting", "saturation", "expected"),
    [
        (10, 5.0, 0, 1.0, 1),  # two end in a second
        (10, 5.0, 19, 1.0, 10),  # twenty have to
        (10, 20.0, 0, 2.0, 12),  # five too many and one more, a half ends in a second
        (1, 7.2, 0, 1.0, 8),
        (0, 7.0, 2, 1.0, 21),  # full for other reasons: as if one server had one
        (1000, 0.2, 0, 1.0, 1),
        (4, 30.0, 500, 1.0, 60),
    ],
)
def test_it_is_the_time_until_enough_have_ended(busy, seconds, waiting, saturation, expected):
    """In whole seconds, from 1 to 60."""
    assert retry_after(busy=busy, seconds=seconds, waiting=waiting, saturation=saturation) == expected


def test_a_shed_request_is_told_by_what_its_pool_has_learnt():
    """Two servers with four requests of some thirty seconds: one ends every seven or so."""
    clock = Clock()
    pool = pool_of(2, clock)
    director = director_of(
        pool, clock=clock, objectives={"batch": -1}, detector=Concurrency(max_concurrency=2)
    )
    for _ in range(4):
        director.pick(Ask(Digest("m")))
    pool.fleet.typical.seconds = 30.0
    with pytest.raises(Overloaded) as refused:
        director.pick(Ask(Digest("m"), objective="batch"))
    assert dict(refused.value.headers)["retry-after"] == "8"
