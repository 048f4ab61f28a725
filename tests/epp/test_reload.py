"""A changed file is put in force as a whole, a bad one changes nothing, and what goes on is not disturbed."""

from __future__ import annotations

import functools
import random

import pytest

from services.epp.app import build
from services.epp.assemble import assemble, make_pools
from services.epp.config import EndpointPickerConfig
from services.epp.director import Ask, Director
from services.epp.endpoints import Endpoint, Metrics
from services.epp.pool import Pool
from services.epp.records import Release, Silent
from services.epp.reload import Live
from services.epp.rewrites import Renaming, Rewriter
from services.epp.state import Alone
from services.epp.upkeep import Upkeep
from services.extproc.config import ConfigError, load, parse
from services.extproc.errors import Unavailable
from services.extproc.lifecycle import Parts, Source
from services.extproc.reload import following
from tests.epp.stack import fake_server, until
from tests.epp.world import Clock, digest, text

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
LLAMA = "{name: llama, endpoints: ['10.0.0.1:8000', '10.0.0.2:8000'], metrics: {enabled: false}%s}"
GEMMA = "{name: gemma, endpoints: ['10.0.9.1:8000'], metrics: {enabled: false}}"


def config(*pools: str, more: str = "") -> EndpointPickerConfig:
    return parse(f"{HEAD}pools: [{', '.join(pools)}]\n{more}", EndpointPickerConfig)


class Following(Upkeep):
    """Starts no loops; the members are those of the file at once."""

    def __init__(self, pools: dict[str, Pool], clock: Clock) -> None:
        self.pools, self.clock = pools, clock
        self.followed: list[EndpointPickerConfig] = []

    async def follow(self, config: EndpointPickerConfig) -> None:
        self.followed.append(config)
        for spec in config.pools:
            pool = self.pools[spec.name]
            pool.set_members(Endpoint(f"{host}:{port}", labels) for host, port, labels in spec.targets())
            for server in pool.snapshot.servers:
                pool.observe(server.address, Metrics(scraped_at=self.clock()))


class Running:
    """A configuration in force, without a process."""

    def __init__(self, start: EndpointPickerConfig) -> None:
        clock = Clock()
        self.pools = make_pools(start, clock)
        self.upkeep = Following(self.pools, clock)
        assembly = assemble(start)
        self.director = Director(
            self.pools,
            assembly.scheduler,
            detector=assembly.detector,
            objectives=assembly.objectives,
            clock=clock,
            rng=random.Random(1),
            observer=Silent(),
            state=Alone(),
        )
        self.rewriter = Rewriter(random.Random(1), assembly.rewrites)
        self.live = Live(assembly, self.pools, self.director, self.upkeep, self.rewriter)


async def started(start: EndpointPickerConfig) -> Running:
    running = Running(start)
    await running.upkeep.follow(start)
    return running


async def test_in_flight_load_and_prefixes_survive():
    """Of a pool that stays, also when its settings change; the release still finds its request."""
    running = await started(config(LLAMA % ""))
    pool = running.pools["llama"]
    asked = Ask(digest(text(5000, 1)))
    first = running.director.pick(asked)
    await running.live.apply(config(LLAMA % ", resolve_interval_seconds: 9", GEMMA))

    assert running.pools["llama"] is pool
    assert pool.inflight.loads[first.decision.servers[0].slot].requests == 1
    assert running.director.release("llama", first.id, Release.ACCESS_LOG)
    again = running.director.pick(Ask(asked.digest, pool="llama"))
    assert again.decision.servers[0] == first.decision.servers[0], "its prefix is there"


async def test_pools_come_and_go():
    """A pool that is gone answers 503, a new one is served."""
    running = await started(config(LLAMA % ""))
    await running.live.apply(config(GEMMA))

    assert running.director.pick(Ask(digest(b"x"), pool="gemma")).addresses == "10.0.9.1:8000"
    with pytest.raises(Unavailable, match="no pool 'llama'"):
        running.director.pick(Ask(digest(b"x"), pool="llama"))


async def test_profiles_objectives_and_the_default_pool_change():
    """All that decides."""
    running = await started(config(LLAMA % "", GEMMA))
    more = """
plugins: [{type: label-selector-filter, parameters: {matchLabels: {none: 'yes'}}}]
objectives: [{name: gold, priority: 7}]
default_pool: gemma
"""
    await running.live.apply(config(LLAMA % "", GEMMA, more=more))

    assert running.live.assembly.objectives == {"gold": 7}
    with pytest.raises(
        Unavailable, match="no server of pool 'gemma' passes the filter 'label-selector-filter'"
    ):
        running.director.pick(Ask(digest(b"x")))


async def test_rewrites_change():
    """With everything else."""
    running = await started(config(LLAMA % ""))
    assert not running.rewriter.covers("llama")
    more = "rewrites: [{name: r, rules: [{targets: [{modelRewrite: x}]}]}]\n"
    await running.live.apply(config(LLAMA % "", GEMMA, more=more))

    assert running.rewriter.covers("llama")
    assert running.rewriter.renamed("gemma", "y", "", str) == Renaming("y", "x", "r")


async def test_a_file_that_cannot_be_put_in_force_changes_nothing():
    """Not even a part of it."""
    running = await started(config(LLAMA % ""))
    assembly = running.live.assembly
    with pytest.raises(ConfigError, match="nope"):
        await running.live.apply(config(GEMMA, more="plugins: [{type: nope}]\n"))

    assert running.live.assembly is assembly
    assert list(running.pools) == ["llama"]
    assert len(running.upkeep.followed) == 1


async def test_labels_change_in_place():
    """The server keeps its place and its load."""
    running = await started(config(LLAMA % ""))
    picked = running.director.pick(Ask(digest(b"x")))
    labelled = "{name: llama, endpoints: ['10.0.0.1:8000', {url: '10.0.0.2:8000', labels: {a: b}}], metrics: {enabled: false}}"
    await running.live.apply(config(labelled))

    assert [dict(server.endpoint.labels) for server in running.pools["llama"].snapshot.servers] == [
        {},
        {"a": "b"},
    ]
    assert running.director.release("llama", picked.id, Release.ACCESS_LOG)


async def test_keys_that_need_a_restart_are_named():
    """Not silently ignored."""
    running = await started(config(LLAMA % ""))
    more = "listen: {port: 1}\nin_flight: {lease_seconds: 5}\nfeatureGates: [flowControl]\n"

    assert await running.live.apply(config(LLAMA % "", more=more)) == ["featureGates", "in_flight", "listen"]


async def test_the_whole_picker_follows_its_file(tmp_path, monkeypatch):
    """Loops start for new members and pools; metric and health tell of a file that was refused."""
    monkeypatch.setattr("services.epp.app.following", functools.partial(following, interval=0.01))
    path = tmp_path / "epp.yaml"

    def write(*pools: str) -> None:
        path.write_text(f"{HEAD}pools: [{', '.join(pools)}]\n")

    def pool(name: str, *endpoints: str) -> str:
        return f"{{name: {name}, endpoints: {list(endpoints)}, metrics: {{interval_seconds: 0.01}}}}"

    def value(metric: str, /, **labels: str) -> float:
        return parts.registry.get_sample_value(metric, labels) or 0.0

    async with fake_server() as one, fake_server() as two:
        write(pool("a", one.address))
        parts = Parts(source=Source(path, lambda: load(path, EndpointPickerConfig)))
        async with build(load(path, EndpointPickerConfig), parts):
            await until(lambda: parts.readiness.ready)
            write(pool("a", one.address, two.address), pool("b", two.address))
            await until(lambda: value("inference_pool_ready_pods", name="a") == 2)
            await until(lambda: value("inference_pool_ready_pods", name="b") == 1)
            path.write_text("nonsense")
            await until(lambda: value("epp_config_last_reload_successful") == 0)
            assert not parts.details["config"].ready
            assert parts.readiness.ready
            write(pool("b", two.address))
            await until(lambda: value("epp_config_last_reload_successful") == 1)
            one.seen.clear()
            before = two.seen["metrics"]
            await until(lambda: two.seen["metrics"] > before + 3)
            assert one.seen["metrics"] <= 1, "a pool that is gone is not asked for its metrics any more"

    assert value("epp_config_reloads_total", result="success") == 2
    assert value("epp_config_reloads_total", result="failure") == 1
