"""Router, picker, real Envoy, and mock servers that tell what they hold: what servers say beats what they were sent."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.bbr.__main__ import build as build_bbr
from services.bbr.config import Config
from services.epp.config import EndpointPickerConfig
from services.extproc.config import Limits, Listen, parse
from services.extproc.lifecycle import Parts, running
from tests.epp.stack import any_port, envoy, envoy_config, picker, until
from tests.tokens.vocabulary import MOCK_TEMPLATE, text, write
from tools.model_server.constants import DEMO
from tools.model_server.core import Settings
from tools.model_server.server import ModelServer, serve

pytestmark = pytest.mark.e2e

MODEL = "llama-3.1-8b-instruct"
ANY = "tcp://127.0.0.1:*"
SMALL = dataclasses.replace(DEMO, kv_blocks=400)
TELLS = Settings(model=MODEL, profile=SMALL, kv_events=ANY, kv_replay=ANY)


@dataclass(slots=True)
class Stack:
    url: str
    servers: Sequence[ModelServer]
    epp: Parts
    session: aiohttp.ClientSession

    async def chat(self, *turns: str, to: ModelServer | None = None, **more: Any) -> int:
        """Send a conversation through the gateway, or past it `to` a server; return its cached tokens."""
        roles = ("user", "assistant")
        messages = [{"role": roles[number % 2], "content": turn} for number, turn in enumerate(turns)]
        return await self._send("chat/completions", {"messages": messages, **more}, to)

    async def complete(self, prompt: str, *, to: ModelServer | None = None) -> int:
        """Send a plain prompt likewise."""
        return await self._send("completions", {"prompt": prompt}, to)

    async def _send(self, path: str, body: dict[str, Any], to: ModelServer | None) -> int:
        body = {"model": MODEL, "max_tokens": 4, **body}
        async with self.session.post(f"{to.url if to else self.url}/v1/{path}", json=body) as answer:
            assert answer.status == 200, await answer.text()
            return int((await answer.json())["usage"]["prompt_tokens_details"]["cached_tokens"])

    def total(self, name: str, **labels: str) -> float:
        """Sum the picker's samples of a metric that have these labels."""
        samples = [sample for family in self.epp.registry.collect() for sample in family.samples]
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    async def told(self) -> None:
        """Wait until the picker knows as many blocks as the servers hold."""
        held = [server.core.loop.engine.kv for server in self.servers]
        await until(lambda: self.total("epp_kv_blocks") == sum(kv.cached_blocks for kv in held))


@contextlib.asynccontextmanager
async def stack(
    folder: Path,
    seed: int,
    tokens: str,
    *,
    told: bool = True,
    router: bool = True,
    scorer: str = "",
    settings: Settings = TELLS,
) -> AsyncIterator[Stack]:
    """Run two servers behind the gateway; `tokens` is where tokens come from, in the first service's configuration.

    Not `told`: the estimate alone. Without the `router` the picker reads bodies. The `scorer` is the one of prefixes.
    """
    async with contextlib.AsyncExitStack() as running_:
        enter = running_.enter_async_context
        servers = [await enter(serve(dataclasses.replace(settings, seed=number))) for number in range(2)]
        source = tokens.replace("SERVER", servers[0].url)
        ports, epp = await enter(
            picker(_epp(servers, told=told, tokens="" if router else source, scorer=scorer))
        )
        await until(lambda: epp.readiness.ready and (not told or epp.details["kv_events"].ready))
        port = any_port(seed)
        config = envoy_config(epp=ports.grpc, port=port, digest="-" if router else "")
        if router:
            bbr = parse(
                f"models: [{{name: {MODEL}, adapters: [food]}}]\ntokens: {{{MODEL}: {source}}}", Config
            )
            listen = Listen(port=0, health_port=0, metrics_port=0, grace_seconds=0)
            run = running(lambda parts: build_bbr(bbr, parts), listen, Limits(), Parts())
            config = _with_router(config, (await enter(run)).grpc)
        await enter(envoy(config, folder))
        session = await enter(aiohttp.ClientSession())
        await _open(session, f"http://127.0.0.1:{port}")
        yield Stack(f"http://127.0.0.1:{port}", servers, epp, session)


async def _open(session: aiohttp.ClientSession, url: str) -> None:
    while True:
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get(f"{url}/v1/models") as answer:
                if answer.status == 200:
                    return


def _epp(servers: Sequence[ModelServer], *, told: bool, tokens: str, scorer: str) -> EndpointPickerConfig:
    members = [
        f"{{url: 'http://127.0.0.1:{server.port}', labels: {{inference-gateway/kv-events-port: '{server.core.events.port}', "
        f"inference-gateway/kv-replay-port: '{server.core.events.replay_port}'}}}}"
        for server in servers
        if server.core.events is not None
    ]
    events = "kv_events: {check_seconds: 0.1}, " if told else ""
    events += f"tokens: {tokens}, " if tokens else ""
    scorer = scorer or ("precise-prefix-cache-scorer" if told else "prefix-cache-scorer")
    return parse(
        f"""
        apiVersion: llm-d.ai/v1alpha1
        kind: EndpointPickerConfig
        plugins: [{{type: {scorer}}}]
        pools: [{{name: llama, {events}metrics: {{interval_seconds: 0.05}}, endpoints: [{", ".join(members)}]}}]
        """,
        EndpointPickerConfig,
    )


def _with_router(config: dict[str, Any], port: int) -> dict[str, Any]:
    """Put the router in front of the picker, in place of the filter that attaches a fixed digest."""
    clusters = config["static_resources"]["clusters"]
    epp = next(cluster for cluster in clusters if cluster["name"] == "epp")
    address = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}
    assignment = {"cluster_name": "bbr", "endpoints": [{"lb_endpoints": [address]}]}
    clusters.append({**epp, "name": "bbr", "load_assignment": assignment})
    chain = config["static_resources"]["listeners"][0]["filter_chains"][0]
    filters = chain["filters"][0]["typed_config"]["http_filters"]
    pick = filters[1]["typed_config"]
    filters[0] = {
        "name": "bbr",
        "typed_config": {
            **pick,
            "grpc_service": {"envoy_grpc": {"cluster_name": "bbr"}},
            "processing_mode": {**pick["processing_mode"], "request_body_mode": "BUFFERED"},
            "metadata_options": {"receiving_namespaces": {"untyped": ["gw.bbr"]}},
        },
    }
    return config


SERVED = "{server: SERVER, wait_seconds: 30}"
"""Conversations and prompts by the first server's `/tokenize`."""


async def test_what_servers_hold_is_found_however_it_came_there(tmp_path):
    """After a restart of the picker, say: the estimate knows nothing, the servers do. And the hit rate shows it."""
    conversations = [[text(300, seed), text(20, seed + 50)] for seed in range(8)]
    cached = {}
    for told in (True, False):
        folder = tmp_path / str(told)
        folder.mkdir()
        async with stack(folder, 50 + told, SERVED, told=told) as up:
            for number, turns in enumerate(conversations):
                await up.chat(*turns, text(3), to=up.servers[number % 2])
            if told:
                await up.told()
            cached[told] = [await up.chat(*turns, text(3), text(5), text(9)) for turns in conversations]
    assert min(cached[True]) > 300
    assert sum(cached[True]) >= sum(cached[False])


async def test_what_a_server_evicted_is_not_believed_any_more(tmp_path):
    """Though the prompt was sent there; the next turn goes where the conversation was computed since."""
    turns = [text(300), text(20, 5), text(9)]
    async with stack(tmp_path, 60, SERVED) as up:
        assert await up.chat(*turns) == 0
        await up.told()
        served = next(server for server in up.servers if server.core.loop.engine.counters.steps)
        other = next(server for server in up.servers if server is not served)
        for seed in range(1, 12):
            await up.chat(text(900, seed), to=served)
        await up.chat(*turns, to=other)
        await up.told()
        before = up.total("inference_extension_prefix_indexer_hit_bytes_sum")
        cached = await up.chat(*turns, text(5), text(9))
        assert cached > 300
        assert other.core.journal.models[MODEL] == 2
        assert up.total("inference_extension_prefix_indexer_hit_bytes_sum") - before > 1000


async def test_prompts_are_known_by_the_operators_own_vocabulary(tmp_path):
    """The router's file and the servers' agree; a prompt that nobody holds is believed to be nowhere."""
    vocabulary = str(write(tmp_path))
    settings = dataclasses.replace(TELLS, tokenizer=vocabulary)
    async with stack(tmp_path, 70, f"{{file: {vocabulary}, wait_seconds: 30}}", settings=settings) as up:
        await up.complete(text(400), to=up.servers[1])
        await up.told()
        cached = await up.complete(text(400) + text(30, 3))
        assert cached > 300
        assert up.total("epp_prefix_lookups_total", known="all") == 1
        up.servers[1].core.loop.engine.kv.clear()
        await up.told()
        before = up.total("inference_extension_prefix_indexer_hit_bytes_sum")
        await up.complete(text(400) + text(200, 4))
        assert up.total("inference_extension_prefix_indexer_hit_bytes_sum") == before


async def test_conversations_are_known_by_the_operators_own_template(tmp_path):
    """No server is asked for tokens, and what they tell of fits what was rendered here."""
    vocabulary, template = str(write(tmp_path)), tmp_path / "own.jinja"
    template.write_text(MOCK_TEMPLATE)
    settings = dataclasses.replace(TELLS, tokenizer=vocabulary)
    tokens = f"{{file: {vocabulary}, template: {template}, wait_seconds: 30}}"
    async with stack(tmp_path, 90, tokens, settings=settings) as up:
        await up.chat(text(300), text(20, 5), text(9), to=up.servers[1])
        await up.told()
        assert await up.chat(text(300), text(20, 5), text(9), text(5), text(9)) > 300
        assert up.total("epp_prefix_lookups_total", known="all") == 1
        assert up.total("inference_extension_prefix_indexer_hit_bytes_sum") > 1000


async def test_without_our_router_the_picker_finds_the_tokens_itself(tmp_path):
    """From the body that it reads then anyway."""
    async with stack(tmp_path, 80, SERVED, router=False) as up:
        await up.chat(text(300), text(20, 5), text(9), to=up.servers[1])
        await up.told()
        assert await up.chat(text(300), text(20, 5), text(9), text(5), text(9)) > 300
        assert up.total("epp_prefix_lookups_total", known="all") == 1
        assert up.total("epp_tokenized_prompts_total", outcome="tokenized") == 1
