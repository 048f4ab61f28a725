"""The whole picker in one process: readiness, with and without Redis, and how it leaves."""

from __future__ import annotations

import socket

import pytest
from click.testing import CliRunner

from services.epp.app import build, main
from services.epp.config import EndpointPickerConfig, PoolSpec, Redis, Scrape
from services.extproc.lifecycle import Parts
from tests.epp.stack import fake_server, free_port, until


def config_of(*endpoints: str, **more) -> EndpointPickerConfig:
    scrape = Scrape(interval_seconds=0.01)
    pools = [
        PoolSpec(name=f"p{number}", endpoints=[endpoint], metrics=scrape)
        for number, endpoint in enumerate(endpoints)
    ]
    return EndpointPickerConfig(
        api_version="llm-d.ai/v1alpha1", kind="EndpointPickerConfig", pools=pools, **more
    )


async def test_it_is_ready_after_every_pool_was_looked_at():
    """A dead server counts as looked at."""
    parts = Parts()
    async with fake_server() as server:
        config = config_of(server.address, f"127.0.0.1:{free_port()}")
        async with build(config, parts) as app:
            assert not parts.readiness.ready
            await until(lambda: parts.readiness.ready)

    assert app.service.name == "epp"
    assert len(app.handlers) == 2


async def test_a_pool_that_does_not_resolve_does_not_keep_it_from_starting(monkeypatch):
    """What failed is recorded, the others serve."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    parts = Parts()
    async with fake_server() as server, build(config_of(server.address, "no-such-host.invalid:80"), parts):
        await until(lambda: parts.readiness.ready)
        ready, failed = (
            parts.registry.get_sample_value(name, labels)
            for name, labels in (
                ("inference_pool_ready_pods", {"name": "p0"}),
                ("epp_resolve_errors_total", {"pool": "p1"}),
            )
        )

    assert ready == 1
    assert failed == 1


async def test_redis_is_looked_for_in_the_background():
    """It need not be there: requests are taken once there is no more time to wait for it, and health tells."""
    parts = Parts()
    redis = Redis(url=f"redis://127.0.0.1:{free_port()}", warm_start_seconds=0.05)
    async with fake_server() as server, build(config_of(server.address, redis=redis), parts):
        await until(lambda: parts.readiness.ready)

        assert parts.registry.get_sample_value("epp_redis_up") == 0
        assert not parts.details["shared-state"].ready
        assert (parts.registry.get_sample_value("epp_state_degraded_seconds_total") or 0.0) > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: EndpointPickerConfig\n", "missing required field `apiVersion`"),
        (
            "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n",
            "$.pools: at least one pool is needed",
        ),
    ],
)
def test_a_bad_file_is_one_sentence_and_status_1(tmp_path, text, message):
    """Also what only shows when the objects are built."""
    path = tmp_path / "epp.yaml"
    path.write_text(text)
    ports = [flag for name in ("port", "health-port", "metrics-port") for flag in (f"--{name}", "0")]
    result = CliRunner().invoke(main, ["--config", str(path), *ports])

    assert result.exit_code == 1
    assert message in result.output
