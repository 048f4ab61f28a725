"""BBR itself on real Envoy: names that go and come back, bodies and paths that are rewritten, splits and reloads.

The chain is that of the gateway: BBR, BBR for answers, a filter that reads bodies (safety's place), one that reads
headers (the picker's). The answers' filter is off but on the routes of requests that BBR renamed.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from services.bbr.__main__ import build
from services.bbr.config import Config
from services.extproc.config import Limits, Listen, load
from services.extproc.lifecycle import Parts, Source, running
from tests.e2e.harness import config
from tests.e2e.harness.backend import model_answer
from tests.e2e.harness.clients import Answer, Ask, http1
from tests.e2e.harness.envoy import Config as Json
from tests.e2e.harness.envoy import Envoy
from tests.e2e.harness.lab import Lab, Places, Plan, lab
from tests.e2e.harness.scripted import Script, Style

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

RULES = """
reload_seconds: 0.05
models:
  - {name: llama, adapters: [food]}
  - {name: old}
  - {name: new}
aliases: {mine: llama, turned: old, "größer/2 x": llama}
rewrites:
  - {name: chance, matches: [by-chance], targets: [{model: old, weight: 90}, {model: new, weight: 10}]}
  - {name: sticky, matches: [by-user], sticky: user, targets: [{model: old, weight: 90}, {model: new, weight: 10}]}
access: {consumer_header: x-team, consumers: {a: {allow: [llama, mine]}}}
"""
SAFETY = {"stream": Style.ECHO, "hold": Style.HOLD, "skip": Style.SKIP}
"""What safety does with an answer: a stream flows, a plain one is held, and some models' answers are not its business."""
REQUESTS = ("BUFFERED", "FULL_DUPLEX_STREAMED")
ALONE = "alone"
FULL_DUPLEX_ANSWERS = {
    "request_header_mode": "SKIP",
    "response_header_mode": "SEND",
    "response_body_mode": "FULL_DUPLEX_STREAMED",
    "response_trailer_mode": "SEND",
}


@dataclass
class World:
    """The lab, and BBR in it."""

    lab: Lab
    rules: Path
    parts: Parts

    async def ask(self, listener: str, body: dict[str, object], path: str, **headers: str) -> Answer:
        pairs = [("content-type", "application/json"), *headers.items()]
        raw = json.dumps(body).encode()
        async with asyncio.timeout(30):
            return await http1(self.lab.envoy.ports[listener], Ask(path, (raw[:9], raw[9:]), pairs))


def listener(name: str, request_mode: str, safety: Style | None) -> tuple[Json, dict[str, Script]]:
    trailers = "SEND" if request_mode == "FULL_DUPLEX_STREAMED" else "SKIP"
    mode = {
        "request_header_mode": "SEND",
        "request_body_mode": request_mode,
        "request_trailer_mode": trailers,
        "response_header_mode": "SKIP",
    }
    rules = {
        "disallow_all": True,
        "allow_expression": {"regex": ":path|x-gateway-.*|content-length|content-type"},
    }
    filters = [
        config.ext_proc("bbr", mode, cluster="bbr", mutation_rules=rules),
        config.ext_proc("bbr-response", FULL_DUPLEX_ANSWERS, cluster="bbr"),
    ]
    scripts = {}
    if safety is not None:
        scripts = {
            f"{name}.safety": Script(request=Style.BUFFERED, response=safety, header_delay=0.004),
            f"{name}.epp": Script(request=Style.HEADERS, header_delay=0.004),
        }
        filters += [config.ext_proc(key, script.mode) for key, script in scripts.items()]
    renamed = {"name": "x-gateway-client-model-name", "present_match": True}
    known = {"name": "x-gateway-model-name", "present_match": True}
    on = {"bbr-response": {"@type": f"{config.EXT_PROC}.ExtProcPerRoute", "overrides": {}}}
    off = config.disabled("bbr-response")
    routes = [
        config.route("backend", match={"prefix": "/", "headers": [renamed]}, per_filter=on),
        config.route("backend", match={"prefix": "/", "headers": [known]}, per_filter=off),
        config.route("unrouted", per_filter={**off, **config.disabled(*scripts)}),
    ]
    return config.listener(name, filters, routes), scripts


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("bbr")
    rules = folder / "bbr.yaml"
    rules.write_text(RULES)
    settings, parts = load(rules, Config), Parts(source=Source(rules, lambda: load(rules, Config)))
    listen = Listen(port=0, grace_seconds=0)
    async with running(lambda parts: build(settings, parts), listen, Limits(), parts) as ports:

        def plan(places: Places) -> Plan:
            built = [
                listener(f"{mode}.{name}", mode, style) for mode in REQUESTS for name, style in SAFETY.items()
            ]
            built.append(listener(ALONE, "BUFFERED", None))
            scripts = {key: script for _, each in built for key, script in each.items()}
            clusters = [
                config.cluster("bbr", [ports.grpc], http2=True),
                config.cluster("unrouted", [places.dead]),
            ]
            return Plan([one for one, _ in built], scripts, clusters)

        async with lab(folder, plan) as running_lab:
            yield World(running_lab, rules, parts)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("safety", SAFETY)
@pytest.mark.parametrize("mode", REQUESTS)
async def test_a_client_sees_its_own_name_and_every_other_byte(world, mode, safety, stream):
    """Behind and before every way in which safety treats an answer, cut at random places, streamed or not."""
    name = f"{mode}.{safety}"

    async def wrong(number: int) -> str:
        body = {"model": "mine", "stream": stream, "messages": [{"role": "user", "content": "é" * number**3}]}
        path = f"/model/{name}-{stream}-{number}/v1/chat/completions"
        answer = await world.ask(name, body, path)
        (got,) = (one for one in world.lab.backend.requests if one.target == path)
        expected = model_answer("mine", "llama", stream=stream)
        upstream = json.dumps(body).encode().replace(b'"mine"', b'"llama"')
        fine = (answer.status, answer.body, answer.complete, got.body) == (200, expected, True, upstream)
        return "" if fine else f"{number}: {answer}, {got.body[:200]!r}"

    assert not list(filter(None, await asyncio.gather(*(wrong(number) for number in range(12)))))


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_that_is_not_renamed_pays_nothing_on_the_way_back(world, stream):
    """Of the same model: no stream of the answers' filter is opened."""
    envoy: Envoy = world.lab.envoy

    def streams() -> int:
        return envoy.stat("http.BUFFERED.stream.ext_proc.bbr-response.streams_started")

    name, before = "BUFFERED.stream", streams()
    path = f"/model/plain-{stream}/v1/chat/completions"
    answer = await world.ask(name, {"model": "llama", "stream": stream, "messages": []}, path)
    assert answer.body == model_answer("llama", "llama", stream=stream)
    assert streams() == before
    await world.ask(name, {"model": "mine", "messages": []}, path)
    assert streams() == before + 1


async def test_a_name_may_be_any_printable_text(world):
    """Headers carry it as UTF-8, and the answer as JSON."""
    body: dict[str, object] = {"model": "größer/2 x", "messages": []}
    answer = await world.ask("BUFFERED.hold", body, "/model/1/v1/chat/completions")
    assert json.loads(answer.body)["model"] == "größer/2 x"


@pytest.mark.parametrize("mode", REQUESTS)
async def test_a_model_in_the_path_is_routed_and_rewritten_there(world, mode):
    """With the verb and the query as they were."""
    answer = await world.ask(f"{mode}.skip", {"instances": [1]}, f"/v1/models/mine:predict?mode={mode}")
    assert answer.status == 200
    assert world.lab.backend.requests[-1].target == f"/v1/models/llama:predict?mode={mode}"
    assert world.lab.backend.requests[-1].header("x-gateway-base-model-name") == "llama"


@pytest.mark.parametrize(("team", "names"), [("a", ["llama", "mine"]), ("b", None)])
async def test_the_list_of_models_is_the_consumers(world, team, names):
    """Answered by BBR, whatever the pools are."""
    ask = Ask("/v1/models", headers=[("x-team", team)], method="GET")
    answer = await http1(world.lab.envoy.ports[ALONE], ask)
    found = [card["id"] for card in json.loads(answer.body)["data"]]
    assert found == names if names else {"llama", "food", "by-user", "turned"} < set(found)
    body: dict[str, object] = {"model": "food", "messages": []}
    refused = await world.ask(ALONE, body, "/v1/chat/completions", **{"x-team": team})
    assert refused.status == (404 if names else 200)


async def split(world: World, bodies: Iterable[dict[str, object]], path: str) -> list[str]:
    """Send all `bodies`, a few at a time, and return which model each answer's server was asked for."""
    slots = asyncio.Semaphore(8)

    async def ask(body: dict[str, object]) -> str:
        async with slots:
            answer = await world.ask(ALONE, body, path)
        assert answer.status == 200, answer
        return str(json.loads(answer.body)["served_by"])

    return await asyncio.gather(*(ask(body) for body in bodies))


async def test_a_split_holds_over_two_thousand_requests(world):
    """Within 4.5 standard deviations: one run in 150,000 fails by chance."""
    body: dict[str, object] = {"model": "by-chance", "messages": []}
    found = Counter(await split(world, [body] * 2_000, "/model/split/v1/chat/completions"))
    assert found.keys() == {"old", "new"}
    assert abs(found["new"] - 200) < 4.5 * (2_000 * 0.1 * 0.9) ** 0.5


async def test_a_sticky_key_never_moves(world):
    """However often it asks; and the keys as a whole hold the split."""
    bodies: list[dict[str, object]] = [
        {"model": "by-user", "messages": [], "user": f"user-{number % 100}"} for number in range(500)
    ]
    found = await split(world, bodies, "/model/sticky/v1/chat/completions")
    assert all(len({found[user + turn] for turn in range(0, 500, 100)}) == 1 for user in range(100))
    assert set(found) == {"old", "new"}


async def test_rules_change_under_traffic_and_no_request_is_lost(world):
    """A file that is wrong on the way changes nothing."""
    count = world.parts.registry.get_sample_value

    def reloads(result: str) -> float:
        return count("bbr_config_reloads_total", {"result": result}) or 0

    async def served_while(text: str, result: str) -> set[str]:
        before, found = reloads(result), set[str]()
        world.rules.write_text(text)
        async with asyncio.timeout(30):
            while reloads(result) == before:
                bodies: list[dict[str, object]] = [{"model": "turned", "messages": []}] * 16
                found |= set(await split(world, bodies, "/model/reload/v1/chat/completions"))
        return found

    assert await served_while("models: {", "failure") == {"old"}
    assert not world.parts.details["config"].ready
    await served_while(RULES.replace("turned: old", "turned: new"), "success")
    bodies: list[dict[str, object]] = [{"model": "turned", "messages": []}]
    assert await split(world, bodies, "/model/reload/v1/chat/completions") == ["new"]
    assert world.parts.details["config"].ready
