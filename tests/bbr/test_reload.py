"""A file that changes under a running service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from services.bbr.__main__ import HEALTH, build
from services.bbr.config import Config
from services.bbr.reload import FollowedRules
from services.bbr.rules import BaseModel, Rules
from services.extproc.config import ConfigError, load
from services.extproc.lifecycle import Parts
from services.extproc.script import Script
from tests.bbr.world import chat


class Text:
    """A file for tests: a text, or what reading it raises."""

    def __init__(self, content: str) -> None:
        self.content: str | ConfigError = content

    def read(self) -> str:
        if isinstance(self.content, ConfigError):
            raise self.content
        return self.content


def rules_of(text: str) -> Rules:
    if text.startswith("!"):
        raise ConfigError(f"bad: {text}")
    return Rules(tuple(BaseModel(name) for name in text.split()))


def followed(file: Text) -> tuple[FollowedRules, list[str | None]]:
    reports: list[str | None] = []
    return FollowedRules(file.read, rules_of, reports.append), reports


async def test_a_changed_file_is_taken_and_told_once():
    """The next request has the new rules."""
    file = Text("one")
    source, reports = followed(file)
    file.content = "one two"
    for _ in range(3):
        await source.look()
    assert list(source.current().ways) == ["one", "two"]
    assert reports == [None]


async def test_a_file_that_stays_the_same_keeps_the_same_object():
    """What is built from the rules can be kept."""
    file = Text("one")
    source, reports = followed(file)
    before = source.current()
    await source.look()
    assert source.current() is before
    assert reports == []


@pytest.mark.parametrize("bad", ["! no rules", ConfigError("bbr.yaml: no such file")], ids=["wrong", "gone"])
async def test_a_bad_file_keeps_the_old_rules_and_is_told_once(bad):
    """Until it is right again, even if it is then as it was."""
    file = Text("one")
    source, reports = followed(file)
    before = source.current()
    file.content = bad
    for _ in range(3):
        await source.look()
    assert source.current() is before
    assert len(reports) == 1
    assert reports[0]
    file.content = "one"
    await source.look()
    assert reports[1:] == [None]
    assert list(source.current().ways) == ["one"]


async def test_another_mistake_is_another_report():
    """Whoever edits sees what is wrong now."""
    file = Text("one")
    source, reports = followed(file)
    for file.content in ("! first", "! second"):
        await source.look()
    assert reports == ["bad: ! first", "bad: ! second"]


async def test_it_looks_at_the_interval():
    """And nowhere else."""
    file = Text("one")
    source, _ = followed(file)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        file.content = f"one n{len(slept)}"
        if len(slept) == 3:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await source.follow(2.5, sleep)
    assert slept == [2.5, 2.5, 2.5]
    assert list(source.current().ways) == ["one", "n2"]


GOOD = "reload_seconds: 0.01\nmodels: [{name: llama}, {name: chatbot}]\naliases: {l: llama}\n"
TURNED = GOOD.replace("l: llama", "l: chatbot")


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
    parts = Parts(config_file=file)
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
        await eventually(lambda: parts.readiness.details[HEALTH] is False)
        assert await ask() == "llama"
        assert parts.readiness.ready
        file.write_text(TURNED)
        assert await asking == [{"llama", "chatbot"}] * 4
        await eventually(lambda: parts.readiness.details[HEALTH] is True)
    value = parts.registry.get_sample_value
    assert (value("bbr_config_reloads_total", {"result": "failure"}) or 0) >= 1
    assert value("bbr_config_reloads_total", {"result": "success"}) == 1
    assert value("bbr_refusals_total", {"reason": "model_not_found"}) is None


async def test_settings_that_need_a_restart_are_named_in_the_log(tmp_path, capsys):
    """The rules of the same file are taken."""
    file = tmp_path / "bbr.yaml"
    file.write_text(GOOD)
    parts = Parts(config_file=file)
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
    parts = Parts(config_file=file)
    async with build(load(file, Config), parts):
        assert HEALTH not in parts.readiness.details
