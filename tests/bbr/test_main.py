from __future__ import annotations

import aiohttp
from click.testing import CliRunner

from services.bbr.__main__ import build, main
from services.bbr.config import Config
from services.extproc.config import Limits, Listen, parse
from services.extproc.lifecycle import Parts, running
from services.extproc.script import Script
from tests.bbr.world import chat

CONFIG = parse("models: [{name: llama}]\naliases: {l: llama}", Config)


async def test_the_process_routes_by_its_configuration_and_counts():
    """What is built from the file is what answers, and its counts are on `/metrics`."""
    parts = Parts()
    async with build(CONFIG, parts) as app:
        sent = await Script(app.service).request({}, chat("l"))
    assert sent.set_headers["x-gateway-model-name"] == "llama"
    assert parts.registry.get_sample_value("bbr_success_total") == 1
    assert parts.registry.get_sample_value("bbr_rewrites_total") == 1


async def test_the_process_listens_and_shows_its_metrics():
    """On ports that the system chooses."""
    listen = Listen(port=0, health_port=0, metrics_port=0)
    async with (
        running(lambda parts: build(CONFIG, parts), listen, Limits(), Parts()) as ports,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{ports.metrics}/metrics") as answer,
    ):
        assert "bbr_info{" in await answer.text()


def test_a_bad_file_ends_the_start_with_one_sentence(tmp_path):
    """And exit status 1."""
    file = tmp_path / "bbr.yaml"
    file.write_text("models: [{name: m}]\naliases: {a: b}")
    result = CliRunner().invoke(main, ["--config", str(file)])
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert "b" in result.output
