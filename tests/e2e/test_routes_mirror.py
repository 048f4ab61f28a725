"""Mirroring on real Envoy: what the copies are, who picks for them, and that clients and the main pool notice nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.gateway.stand import Stand, stand
from tests.e2e.harness.wait import until
from tools.gateway.routes import Fallback, Mirror, Route, Routes, Share

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

ROUTES = Routes(
    routes=(
        Route(
            base_model="chat",
            pools=(Share(pool="main"),),
            mirrors=(Mirror(pool="trial", percent=100, model="candidate"), Mirror(pool="twin", percent=100)),
            first_byte_seconds=1,
        ),
        Route(base_model="some", pools=(Share(pool="main"),), mirrors=(Mirror(pool="twin", percent=20),)),
        Route(
            base_model="both",
            pools=(Share(pool="main"),),
            fallbacks=(Fallback(pool="twin"),),
            mirrors=(Mirror(pool="trial", percent=100, model="candidate"),),
        ),
    ),
)
MODELS = {"main": ("chat", "some", "both"), "trial": ("candidate",), "twin": ("chat", "some", "both")}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stand]:
    aliases = {"alias": "chat"}
    async with stand(tmp_path_factory.mktemp("stand"), ROUTES, MODELS, aliases=aliases) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(running: Stand) -> Stand:
    await running.forget()
    return running


async def arrived(gateway: Stand, pool: str, count: int) -> None:
    """Wait for copies, which nobody else waits for."""

    async def enough() -> bool:
        return len(gateway.pools[pool].entries) >= count

    await until(enough, f"{count} requests in {pool}", deadline=10)


async def test_a_copy_reaches_the_mirrors_servers_under_their_own_name(gateway):
    """By the servers' own counts: main and twin were asked for `chat`, the trial for `candidate`, once each."""
    answer = await gateway.ask("chat")
    assert (answer.headers["x-served-by"], answer.json()["model"]) == ("main-1", "chat")
    await arrived(gateway, "trial", 1)
    await arrived(gateway, "twin", 1)
    states = {pool: (await gateway.state(pool))["models"] for pool in MODELS}
    assert states == {"main": {"chat": 1}, "trial": {"candidate": 1}, "twin": {"chat": 1}}


async def test_a_copy_is_the_request_and_only_its_model_differs(gateway):
    """The same bytes in the twin; in the trial as many more as the name is longer."""
    await gateway.ask("chat", seed=7)
    await arrived(gateway, "trial", 1)
    await arrived(gateway, "twin", 1)
    main, trial, twin = (gateway.pools[pool].entries[0] for pool in ("main", "trial", "twin"))
    assert (twin["body_sha256"], twin["path"]) == (main["body_sha256"], main["path"])
    grown = trial["body_length"] - main["body_length"]
    assert grown >= len("candidate") - len("chat")


async def test_every_pool_has_a_pick_of_its_own(gateway):
    """One for the client's request and one for each copy, told apart by pool, each with a digest."""
    await gateway.ask("chat")
    await arrived(gateway, "trial", 1)
    await arrived(gateway, "twin", 1)
    assert {name: pool.picks for name, pool in gateway.pools.items()} == {"main": 1, "trial": 1, "twin": 1}
    digests = {
        context["x-gateway-pool"]: metadata["gw.bbr"]["digest"]
        for context, metadata in zip(gateway.epp.contexts, gateway.epp.metadata, strict=True)
    }
    assert digests == {"main": "digest-of-chat", "twin": "digest-of-chat", "trial": "digest-of-candidate"}


async def test_every_picks_end_is_reported_with_its_own_decision(gateway):
    """Three picks, three ends in the access log: no load stays behind and none is released twice."""
    await gateway.ask("chat")

    async def all_ended() -> bool:
        made = [decision for pool in gateway.pools.values() for decision in pool.decisions]
        return len(made) == 3 and set(made) <= set(ended(gateway))

    await until(all_ended, "three ends", deadline=10)
    assert max(Counter(ended(gateway)).values()) == 1


def ended(gateway: Stand) -> list[str]:
    """Return the decisions whose ends the access log brought."""
    found = []
    for entry in gateway.epp.logs:
        assert entry.common_properties is not None
        assert entry.common_properties.metadata is not None
        found.append(str(entry.common_properties.metadata.filter_metadata["gw.epp"].to_dict()["decision"]))
    return found


@pytest.mark.parametrize("trouble", ["refused", "dead", "stalled", "failing"])
async def test_a_mirror_in_trouble_is_nobodys_trouble(gateway, trouble):
    """Whatever becomes of the copies, the client has its answer from the main pool."""
    trial = gateway.pools["trial"]
    match trouble:
        case "refused":
            trial.refuse = 429
        case "dead":
            trial.pick = [gateway.dead]
        case "stalled":
            trial.stall()
        case "failing":
            trial.fail(500)
    answer = await gateway.ask("chat")
    assert (answer.status_code, answer.headers["x-served-by"]) == (200, "main-1")
    assert len(gateway.pools["main"].entries) == 1


async def test_safety_and_bbr_see_a_clients_request_once(gateway):
    """A copy is judged no second time; BBR reads it again only for the mirror with another name."""
    await gateway.ask("chat")
    await arrived(gateway, "trial", 1)
    await arrived(gateway, "twin", 1)
    assert len(gateway.safety.requests) == 1
    assert len(gateway.bbr.requests) == 2
    assert [
        context["x-gateway-model"] for context in gateway.bbr.contexts if "x-gateway-model" in context
    ] == ["candidate"]


async def test_an_alias_is_restored_for_the_client_and_not_mirrored(gateway):
    """The main answer says `alias`; both mirrors got what the routes say."""
    assert (await gateway.ask("alias")).json()["model"] == "alias"
    await arrived(gateway, "trial", 1)
    await arrived(gateway, "twin", 1)
    assert gateway.pools["trial"].counts == {"candidate": 1}
    assert gateway.pools["twin"].counts == {"chat": 1}


async def test_a_share_of_requests_is_mirrored(gateway):
    """20 % of 300 within 4.5 standard deviations, which misses once in 150,000 runs."""
    count, share = 300, 0.2
    for _ in range(count):
        assert (await gateway.ask("some", max_tokens=1)).headers["x-served-by"] == "main-1"
    deviation = math.sqrt(count * share * (1 - share))
    assert abs(gateway.pools["twin"].counts["some"] - count * share) < 4.5 * deviation
    assert gateway.pools["main"].counts["some"] == count


async def test_a_fallback_is_not_mirrored_twice(gateway):
    """One client, one copy, however many pools were tried."""
    gateway.pools["main"].refuse = 503
    assert (await gateway.ask("both")).headers["x-served-by"] == "twin-1"
    await arrived(gateway, "trial", 1)
    assert gateway.pools["trial"].counts == {"candidate": 1}
    assert gateway.pools["trial"].picks == 1


async def test_a_mirror_without_an_answer_does_not_hold_a_streamed_one(gateway):
    """The stream is whole while the copies are still being answered."""
    gateway.pools["trial"].stall()
    answer = await gateway.ask("chat", stream=True)
    assert answer.text.rstrip().endswith("data: [DONE]")
