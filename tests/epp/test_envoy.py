"""On real Envoy: membership by EDS, the pick by metadata, and the end by the access log."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Mapping

import aiohttp
import pytest

from services.epp.accesslog import AccessLog
from services.epp.config import EndpointPickerConfig, PoolSpec, Scrape
from services.epp.reference_config import PluginRef, PluginSpec, ProfileSpec
from services.extproc.background import background
from services.extproc.lifecycle import Parts
from services.openai.digest import encode
from services.pb import accesslog_pb2 as pb
from tests.epp.stack import any_port, chat, envoy, envoy_config, fake_server, free_port, picker, until
from tests.epp.world import digest, text

pytestmark = pytest.mark.e2e


def config_of(*endpoints: str, scraped: bool = True) -> EndpointPickerConfig:
    pool = PoolSpec(
        name="llama", endpoints=list(endpoints), metrics=Scrape(enabled=scraped, interval_seconds=0.05)
    )
    # These servers answer at once, from which the default profile learns that a cached prompt is worth nothing.
    profile = ProfileSpec("prefix", [PluginRef("prefix-cache-scorer")])
    return EndpointPickerConfig(
        api_version="llm-d.ai/v1alpha1",
        kind="EndpointPickerConfig",
        plugins=[PluginSpec("prefix-cache-scorer")],
        scheduling_profiles=[profile],
        pools=[pool],
    )


def total(parts: Parts, name: str, **labels: str) -> float:
    """Sum the samples of a metric that have these labels."""
    samples = [sample for family in parts.registry.collect() for sample in family.samples]
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


async def test_a_request_goes_where_it_was_picked_to_go_and_its_end_comes_back(tmp_path):
    """Envoy learns the members from the picker, obeys the pick, and reports the end with the decision id."""
    async with (
        fake_server() as one,
        fake_server() as two,
        picker(config_of(one.address, two.address)) as running,
    ):
        ports, parts = running
        await until(lambda: parts.readiness.ready)
        port = any_port(1)
        async with (
            envoy(envoy_config(epp=ports.grpc, port=port), tmp_path),
            aiohttp.ClientSession() as session,
        ):
            url = f"http://127.0.0.1:{port}"
            served = [await chat(session, url, f"conversation {number % 2} " * 200) for number in range(8)]
            await until(lambda: total(parts, "epp_releases_total", by="access_log") == 8)

    assert [status for status, _ in served] == [200] * 8
    by_conversation = [{answer["served"] for _, answer in served[start::2]} for start in (0, 1)]
    assert [len(servers) for servers in by_conversation] == [1, 1], "turns stay where their prefix is"
    assert total(parts, "epp_ends_total", outcome="completed") == 8
    assert total(parts, "epp_inflight_requests") == 0
    assert total(parts, "epp_membership_answers_total", answer="ack") >= 1


async def test_a_refused_connection_goes_to_the_next_server_of_the_list(tmp_path):
    """The retry takes the second entry, and the load follows to whoever served."""
    dead = f"127.0.0.1:{free_port()}"
    async with fake_server() as alive, picker(config_of(dead, alive.address, scraped=False)) as running:
        ports, parts = running
        port = any_port(2)
        async with (
            envoy(envoy_config(epp=ports.grpc, port=port), tmp_path),
            aiohttp.ClientSession() as session,
        ):
            url = f"http://127.0.0.1:{port}"
            answers = [await chat(session, url, f"{number} unrelated " * 50) for number in range(12)]
            await until(lambda: total(parts, "epp_releases_total", by="access_log") == 12)

    assert {status for status, _ in answers} == {200}
    assert {answer["served"] for _, answer in answers} == {alive.address}
    host, _, number = dead.partition(":")
    assert total(parts, "inference_extension_scheduler_attempts_total", pod_name=host, port=number) > 0


async def test_without_a_ready_server_the_client_gets_a_503_with_a_reason(tmp_path):
    """In the client's own dialect."""
    async with picker(config_of(f"127.0.0.1:{free_port()}")) as running:
        ports, parts = running
        await until(lambda: parts.readiness.ready)
        port = any_port(3)
        async with (
            envoy(envoy_config(epp=ports.grpc, port=port), tmp_path),
            aiohttp.ClientSession() as session,
        ):
            status, answer = await chat(session, f"http://127.0.0.1:{port}", "hello")

    assert status == 503
    assert answer["error"]["message"] == "no server of pool 'llama' is ready"


async def test_a_digest_from_the_router_is_used_and_does_not_come_back(tmp_path, monkeypatch):
    """The picker sees headers only; the access log has the decision, and the digest no more."""
    logged: list[pb.HTTPAccessLogEntry] = []
    receive = AccessLog.receive

    def spy(self: AccessLog, message: pb.StreamAccessLogsMessage) -> None:
        logged.extend(message.http_logs.log_entry)
        receive(self, message)

    monkeypatch.setattr(AccessLog, "receive", spy)
    attached = digest(text(5000, 1), model="m")
    async with (
        fake_server() as one,
        fake_server() as two,
        picker(config_of(one.address, two.address)) as running,
    ):
        ports, parts = running
        await until(lambda: parts.readiness.ready)
        port = any_port(4)
        config = envoy_config(epp=ports.grpc, port=port, digest=encode(attached))
        async with envoy(config, tmp_path), aiohttp.ClientSession() as session:
            answers = []
            for number in range(6):
                answers.append(await chat(session, f"http://127.0.0.1:{port}", f"{number}"))
                await until(lambda: len(logged) == len(answers))  # its end is known: nothing is in flight

    assert len({answer["served"] for _, answer in answers}) == 1
    assert total(parts, "inference_objective_request_total", model_name="m") == 6
    found = [entry.common_properties.metadata.filter_metadata for entry in logged]
    assert all("decision" in metadata["gw.epp"].fields for metadata in found)
    assert [metadata["gw.bbr"].fields["digest"].string_value for metadata in found] == [""] * 6


async def test_what_a_killed_envoy_had_in_flight_ends_with_it_and_nothing_else(tmp_path):
    """It reports no ends any more; its broken streams tell. Another Envoy's requests go on counting."""
    async with fake_server() as server, picker(config_of(server.address)) as running:
        ports, parts = running
        await until(lambda: parts.readiness.ready)
        first, second = any_port(5), any_port(6)
        async with (
            envoy(envoy_config(epp=ports.grpc, port=first, node="one"), tmp_path) as one,
            envoy(envoy_config(epp=ports.grpc, port=second, node="two"), tmp_path),
            aiohttp.ClientSession() as session,
        ):
            for port in (first, second):
                assert (await chat(session, f"http://127.0.0.1:{port}", "hello"))[0] == 200
            await until(lambda: total(parts, "epp_inflight_requests") == 0)
            server.thinks = asyncio.Event()
            async with background(_ask(session, second)):
                async with background(_ask(session, first)):
                    await until(lambda: total(parts, "epp_inflight_requests") == 2)
                    one.send_signal(signal.SIGKILL)
                    await until(lambda: total(parts, "epp_inflight_requests") == 1)
                assert total(parts, "epp_releases_total", by="proxy_gone") == 1
                server.thinks.set()
                await until(lambda: total(parts, "epp_releases_total", by="access_log") == 3)


HELLO = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


async def _ask(session: aiohttp.ClientSession, port: int) -> None:
    with contextlib.suppress(aiohttp.ClientError):
        async with session.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=HELLO) as answer:
            await answer.read()


@pytest.mark.parametrize(
    ("seed", "action", "expected"),
    [
        (7, {"timeout": "0.2s"}, 504),
        (8, {"max_stream_duration": {"max_stream_duration": "0.2s"}}, 504),
        (9, {"retry_policy": {"retry_on": "connect-failure", "per_try_timeout": "0.2s"}}, 504),
    ],
    ids=["route", "stream", "try"],
)
async def test_a_request_whose_time_is_up_ends(
    tmp_path, seed: int, action: Mapping[str, object], expected: int
):
    """Whoever's patience it was: the client knows, and nothing is left of the request."""
    async with fake_server() as server, picker(config_of(server.address)) as running:
        ports, parts = running
        await until(lambda: parts.readiness.ready)
        server.thinks = asyncio.Event()
        port = any_port(seed)
        async with (
            envoy(envoy_config(epp=ports.grpc, port=port, action=action), tmp_path),
            aiohttp.ClientSession() as session,
        ):
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            status = 0
            while status != expected:  # 503 while Envoy starts
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    async with session.post(url, json=HELLO) as answer:
                        status = answer.status
                await asyncio.sleep(0.01)
            await until(lambda: total(parts, "epp_ends_total", outcome="timed_out") == 1)
    assert total(parts, "epp_inflight_requests") == 0
