"""Real Envoy with a test's own routes, mock model servers, and services that answer by rote and can be steered.

Everything but Envoy lives on the test's event loop, so that a module starts in a second.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from envoy_data_plane.envoy.service.ext_proc import v3 as ext_proc
from envoy_data_plane.envoy.type.v3 import HttpStatus, StatusCode
from envoy_data_plane.google.protobuf import Struct

from tests.e2e.harness.lab import dead_port
from tests.e2e.harness.wait import until
from tests.gateway.stubs import (
    ContextReply,
    Seen,
    access_log,
    contextual_processor,
    free_book,
    membership,
    metadata_of,
    passing,
    picked,
    processor,
    running_envoy,
    serving,
    set_headers,
)
from tools.gateway.envoy import bootstrap
from tools.gateway.envoy.filters import RENAMED
from tools.gateway.envoy.settings import MODEL_CONTEXT, POOL_CONTEXT
from tools.gateway.routes import Routes
from tools.model_server.core import Settings
from tools.model_server.faults import ServerFaults
from tools.model_server.server import ModelServer, serve

Json = dict[str, object]
PATH = "/v1/chat/completions"


def body_of(model: str, **more: object) -> Json:
    """Return a chat request of two tokens."""
    return {"model": model, "max_tokens": 2, "messages": [{"role": "user", "content": "Hello"}], **more}


@dataclass(slots=True)
class Pool:
    """A pool's servers, and what the stand's EPP says of it."""

    servers: list[ModelServer] = field(default_factory=list)
    refuse: int | None = None
    """429 when saturated, 503 when nobody is ready."""
    pick: list[int] | None = None
    """Ports, in place of the servers' own."""
    picks: int = 0
    """How often the EPP was asked."""
    decisions: list[str] = field(default_factory=list)
    """The ids of its picks."""

    @property
    def counts(self) -> Counter[str]:
        """Requests by the model that the servers were asked for."""
        return sum((server.core.journal.models for server in self.servers), Counter[str]())

    @property
    def entries(self) -> list[Json]:
        """The requests that reached the servers, as `GET /admin/state` shows them."""
        return [entry.as_json() for server in self.servers for entry in server.core.journal.entries()]

    def stall(self) -> None:
        """Let the servers take requests and never begin an answer."""
        for server in self.servers:
            server.apply(ServerFaults(stall_after=0))

    def fail(self, status: int) -> None:
        """Let the servers answer every request with an error of their own."""
        for server in self.servers:
            server.apply(ServerFaults(status=status))

    def reset(self) -> None:
        self.refuse, self.pick, self.picks = None, None, 0
        self.decisions.clear()
        for server in self.servers:
            server.core.journal.clear()
            server.apply(ServerFaults())


@dataclass(slots=True)
class Stand:
    """The running stand."""

    http: httpx.AsyncClient
    admin: str
    pools: dict[str, Pool]
    bbr: Seen
    safety: Seen
    epp: Seen
    dead: int
    """A port that is a member of every pool and refuses every connection."""

    async def ask(
        self, model: str, *, headers: Mapping[str, str] | None = None, **more: object
    ) -> httpx.Response:
        """Send one chat request."""
        return await self.http.post(PATH, json=body_of(model, **more), headers=headers)

    async def state(self, pool: str) -> Json:
        """Return what the first server of `pool` says of itself over its admin API."""
        async with httpx.AsyncClient() as http:
            found: Json = (await http.get(f"{self.pools[pool].servers[0].url}/admin/state")).json()
            return found

    async def stat(self, name: str) -> int:
        """Return the sum of Envoy's counters that `name`, a regular expression, matches."""
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"http://{self.admin}/stats", params={"filter": f"^{name}$"})
        return sum(int(line.split()[-1]) for line in answer.text.splitlines())

    async def forget(self) -> None:
        """Wait until nothing is in flight, copies included, and forget what was."""

        async def at_rest() -> bool:
            return await self.stat(r"http.(edge|legs).downstream_rq_active") == 0

        await until(at_rest, "nothing is in flight")
        for pool in self.pools.values():
            pool.reset()
        for seen in (self.bbr, self.safety, self.epp):
            seen.forget()


@contextlib.asynccontextmanager
async def stand(
    folder: Path,
    routes: Routes,
    models: Mapping[str, Sequence[str]],
    *,
    aliases: Mapping[str, str] | None = None,
    extra: Sequence[int] = (),
) -> AsyncIterator[Stand]:
    """Run Envoy with `routes` and one mock server for each pool in `models` (pool → names that it serves) until the block ends.

    `extra` are more members of every pool.
    """
    seen = Seen(), Seen(), Seen()
    async with contextlib.AsyncExitStack() as stack:
        pools = {pool: Pool() for pool in models}
        for pool, (model, *others) in models.items():
            settings = Settings(name=f"{pool}-1", model=model, adapters=tuple(others))
            server = await stack.enter_async_context(serve(settings))
            pools[pool].servers.append(server)
        book = free_book()
        replies = contextual_processor(seen[0], _rote_bbr(aliases or {}))
        await stack.enter_async_context(serving(book.bbr.port, replies))
        await stack.enter_async_context(serving(book.safety.port, processor(seen[1], passing)))
        dead = stack.enter_context(dead_port())
        members = {f"pool-{name}": [*_ports(pool), dead, *extra] for name, pool in pools.items()}
        picker = contextual_processor(seen[2], _rote_epp(pools))
        await stack.enter_async_context(
            serving(book.epp.port, picker, membership(members), access_log(seen[2]))
        )
        config = folder / "envoy.json"
        config.write_text(bootstrap.to_json(bootstrap.build(routes, book)))
        used = sum(len(members[f"pool-{pool}"]) for pool in routes.pools)
        await stack.enter_async_context(running_envoy(config, book.admin, members=used))
        client = httpx.AsyncClient(base_url=f"http://{book.gateway}", timeout=30)
        yield Stand(await stack.enter_async_context(client), str(book.admin), pools, *seen, dead)


def _rote_bbr(aliases: Mapping[str, str]) -> ContextReply:
    """Return a BBR that knows aliases and the model that a route names, and restores the client's name.

    It also sets the headers that a body asks for in `set`, as one in wrong hands might.
    """

    def reply(message: ext_proc.ProcessingRequest, context: Mapping[str, str]) -> ext_proc.ProcessingResponse:
        if message.response_body:
            notes = metadata_of(message)["gw.bbr"]
            assert isinstance(notes, dict)
            old, new = (json.dumps(notes[key]).encode() for key in ("target", "asked"))
            message.response_body.body = message.response_body.body.replace(
                b'"model":' + old, b'"model":' + new
            )
        if not message.request_body:
            return passing(message)
        content = json.loads(message.request_body.body)
        asked = content["model"]
        target = context.get(MODEL_CONTEXT) or aliases.get(asked, asked)
        return _routed(content, asked, target)

    return reply


def _routed(content: Json, asked: str, target: str) -> ext_proc.ProcessingResponse:
    more = content.get("set", {})
    assert isinstance(more, dict)
    headers = {"x-gateway-model-name": target, "x-gateway-base-model-name": target, **more}
    common = ext_proc.CommonResponse(clear_route_cache=True)
    if target != asked:
        body = json.dumps({**content, "model": target}).encode()
        common.body_mutation = ext_proc.BodyMutation(body=body)
        headers |= {RENAMED: asked, "content-length": str(len(body))}
    common.header_mutation = set_headers(headers)
    notes = {
        "digest": f"digest-of-{target}".ljust(int(str(content.get("digest_bytes", 0))), "="),
        "asked": asked,
        "target": target,
    }
    return ext_proc.ProcessingResponse(
        request_body=ext_proc.BodyResponse(response=common),
        dynamic_metadata=Struct.from_dict({"gw.bbr": notes}),
    )


def _rote_epp(pools: Mapping[str, Pool]) -> ContextReply:
    """Return an EPP that names all servers of the pool it is told, or refuses for it."""
    number = itertools.count()

    def reply(_: ext_proc.ProcessingRequest, context: Mapping[str, str]) -> ext_proc.ProcessingResponse:
        pool = pools[context[POOL_CONTEXT]]
        pool.picks += 1
        if pool.refuse is not None:
            return _refusal(pool.refuse)
        ports = pool.pick or _ports(pool)
        pool.decisions.append(f"decision-{next(number)}")
        return picked(",".join(f"127.0.0.1:{port}" for port in ports), pool.decisions[-1])

    return reply


def _refusal(status: int) -> ext_proc.ProcessingResponse:
    body = json.dumps({"error": {"message": "by the EPP", "code": "refused"}}).encode()
    headers = set_headers({"content-type": "application/json", "retry-after": "1"})
    immediate = ext_proc.ImmediateResponse(
        status=HttpStatus(code=StatusCode(status)), body=body, headers=headers, details="epp_refused"
    )
    return ext_proc.ProcessingResponse(immediate_response=immediate)


def _ports(pool: Pool) -> list[int]:
    return [server.port for server in pool.servers]
