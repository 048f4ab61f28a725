"""A pool with a profile of its own."""

from __future__ import annotations

import random
from dataclasses import replace

from services.epp.scheduling.handlers.by_pool import ByPool
from tests.epp.scheduling.handlers.world import Fixed
from tests.epp.scheduling.world import server, situation


def test_a_pools_own_profile_decides_there():
    """Elsewhere the handler does; each hears of its own decisions only."""
    default, own = Fixed("default"), Fixed("own")
    scheduler = ByPool(default, {"gemma": own})
    for pool in ("gemma", "llama"):
        request = replace(situation(), pool=pool)
        scheduler.chosen(request, scheduler.run(request, [server(0)], random.Random(1)))

    assert [request.pool for request in own.asked] == ["gemma"]
    assert [request.pool for request in default.asked] == ["llama"]
    assert (len(own.told), len(default.told)) == (1, 1)
