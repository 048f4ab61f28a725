"""A file that changes under a running service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from services.bbr.__main__ import build
from services.bbr.config import Config, Model, Plugin
from services.bbr.reload import LiveRules
from services.extproc.config import load
from services.extproc.lifecycle import Parts, Source
from services.extproc.reload import HEALTH
from services.extproc.script import Script
from tests.bbr.world import chat


async def test_rules_are_replaced_and_what_needs_a_restart_is_named():
    """What is built from the rules can be kept while they are the same object."""
    models = (Model(name="one"),)
    live = LiveRules(Config(models=models))
    before = live.current()
    assert live.current() is before
    plugins = (Plugin(type="base-model-to-header"),)
    changed = Config(models=(*models, Model(name="two")), plugins=plugins, reload_seconds=9)
    assert await live.apply(changed) == ["reload_seconds", "plugins"]
    assert list(live.current().ways) == ["one", "two"]


GOOD = "reload_seconds: 0.01\nmodels: [{name: llama}, {name: chatbot}]\naliases: {l: llama}\n"
TURNED = GOOD.replace("l: llama", "l: chatbot")


def parts_of(file: Path) -> Parts:
    return Parts(source=Source(file, lambda: load(file, Config)))


async def eventually(holds: Callable[[], bool | Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while True:
            found = holds()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.005)


async def test_no_request_is_lost_while_the_file_changes_and_breaks(tmp_path):
    """Each one that runs meanwhile is answered whole: by the old rules or by the new ones."""
    file = tmp_path / "bbr.yaml"
    file.write_text(GOOD)
    parts = parts_of(file)
    async with build(load(file, Config), parts) as app:

        async def ask() -> str:
            body = chat("l")
            sent = await Script(app.service, request_body="FULL_DUPLEX_STREAMED").request({}, body, cut=[9])
            assert sent.complete
            model = sent.set_headers["x-gateway-model-name"]
            assert json.loads(sent.body)["model"] == model
            await asyncio.sleep(0)
            return model

        async def many() -> set[str]:
            found = set()
            async with asyncio.timeout(20):
                while "chatbot" not in found:
                    found |= set(await asyncio.gather(*(ask() for _ in range(5))))
            return found

        asking = asyncio.gather(*(many() for _ in range(4)))
        await eventually(lambda: parts.registry.get_sample_value("bbr_success_total") != 0)
        file.write_text("models: [")
        await eventually(lambda: not parts.details[HEALTH].ready)
        assert await ask() == "llama"
        assert parts.readiness.ready
        file.write_text(TURNED)
        assert await asking == [{"llama", "chatbot"}] * 4
        await eventually(lambda: parts.details[HEALTH].ready)
    value = parts.registry.get_sample_value
    assert (value("bbr_config_reloads_total", {"result": "failure"}) or 0) >= 1
    assert value("bbr_config_reloads_total", {"result": "success"}) == 1
    assert value("bbr_refusals_total", {"reason": "model_not_found"}) is None


async def test_settings_that_need_a_restart_are_named_in_the_log(tmp_path, capsys):
    """The rules of the same file are taken."""
    file = tmp_path / "bbr.yaml"
    file.write_text(GOOD)
    parts = parts_of(file)
    async with build(load(file, Config), parts) as app:
        file.write_text(TURNED + "plugins: [{type: base-model-to-header}]\n")

        async def turned() -> bool:
            sent = await Script(app.service).request({}, chat("l"))
            return sent.set_headers["x-gateway-model-name"] == "chatbot"

        await eventually(turned)
    output = "".join(capsys.readouterr())
    assert "config_needs_restart" in output
    assert "plugins" in output


async def test_a_file_is_not_followed_where_the_interval_is_nought(tmp_path):
    """For operators who restart."""
    file = tmp_path / "bbr.yaml"
    file.write_text(GOOD.replace("0.01", "0"))
    parts = parts_of(file)
    async with build(load(file, Config), parts):
        assert HEALTH not in parts.details
