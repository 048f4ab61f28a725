"""The recordings against the Envoy that is installed now."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.harness.lab import Lab, lab
from tests.frames.frames import NAMES, kinds
from tests.frames.record import record
from tests.frames.scenarios import SCENARIOS, plan

pytestmark = pytest.mark.e2e


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    async with lab(tmp_path_factory.mktemp("envoy"), plan) as running:
        yield running


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", SCENARIOS)
async def test_envoy_still_says_what_was_recorded(running, name):
    """The same messages in the same order; their bytes may differ in times and ports."""
    recording = await record(running, name)
    assert [message["kind"] for message in recording["messages"]] == kinds(name)


def test_every_scenario_is_recorded_and_nothing_else():
    """A scenario without a file, or a file without a scenario, is a mistake."""
    assert set(NAMES) == set(SCENARIOS)
