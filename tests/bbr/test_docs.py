"""What docs/routing.md shows is what runs."""

from __future__ import annotations

import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from services.bbr import registry
from services.bbr.config import Config
from services.bbr.rules import Resolution
from services.extproc.config import parse
from services.extproc.script import Script
from tests.bbr.world import Notes, bbr, chat, way

TEXT = (Path(__file__).parents[2] / "docs" / "routing.md").read_text().partition("\n## Envoy")[0]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_configuration_that_is_shown_can_be_used(text):
    """As it stands."""
    assert parse(text, Config).rules().ways


def test_the_rewrites_do_what_is_said_of_them():
    """Exact, alias, generic for what nothing else knows."""
    rules = parse(blocks("yaml")[0], Config).rules()
    assert way(rules, "llama") == Resolution(
        "llama-3.1-8b-instruct", "llama-3.1-8b-instruct", rewritten=True, rule="alias"
    )
    assert way(rules, "food-review") == Resolution("food-review", "llama-3.1-8b-instruct")
    assert way(rules, "gpt-x") == Resolution("llama-3.2", "llama-3.2", rewritten=True, rule="rest")
    picks = [way(rules, "chat", lambda _, key=f"user-{n}": key) for n in range(200)]  # type: ignore[misc]  # a default
    assert {pick.target for pick in picks if pick} == {"llama-3.1-8b-instruct", "llama-3.2"}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> str:
    """Install the page's plugin as the page says, and return its source."""
    (source,) = blocks("python")
    (packaging,) = blocks("toml")
    line = re.search(r'\[project\.entry-points\."(.*)"\]\n(.*) = "(.*):.*"', packaging)
    assert line is not None
    module = ModuleType(line[3])
    monkeypatch.setitem(sys.modules, line[3], module)
    exec(compile(source, "docs/routing.md", "exec"), module.__dict__)
    point = EntryPoint(line[2], packaging.splitlines()[1].split('"')[1], line[1])
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == line[1] else [])
    return source


def test_the_example_plugin_has_fifteen_lines(installed):
    """Or it would be no example of how little it takes."""
    assert len([line for line in installed.splitlines() if line.strip()]) <= 15


@pytest.mark.usefixtures("installed")
async def test_the_example_plugin_sends_long_prompts_elsewhere():
    """Through its entry point and the chain that the page shows."""
    config = parse(blocks("yaml")[-1], Config)
    notes = Notes()
    service = bbr(rules=config.rules(), plugins=tuple(config.chain()), notes=notes)

    async def target(text: str) -> tuple[str, str | None]:
        body = chat("llama", messages=[{"role": "user", "content": text}], user="ann")
        sent = await Script(service).request({}, body)
        return sent.set_headers["x-gateway-model-name"], sent.set_headers.get("x-gateway-user")

    assert await target("short") == ("llama", "ann")
    assert await target("long" * 1000) == ("llama-long", "ann")
    assert [name for _, name, _ in notes.runs] == ["long", "body-field-to-header"] * 2
    assert [link.on_error for link in config.chain()] == ["open", "open"]
