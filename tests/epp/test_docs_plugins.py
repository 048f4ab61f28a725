"""`docs/plugins.md` keeps its promises: its scorer runs, its files are good, and it tells of every plugin."""

from __future__ import annotations

import inspect
import random
import re
import sys
import types
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from services.epp import plugins
from services.epp.assemble import assemble
from services.epp.config import EndpointPickerConfig
from services.epp.director import Ask, Director
from services.epp.endpoints import Endpoint, Metrics
from services.epp.pool import Pool
from services.epp.records import Silent
from services.epp.state import Alone
from services.epp.unsupported import PLUGINS as UNSUPPORTED
from services.extproc.config import parse
from services.openai.digest import Digest
from tests.epp.world import Clock

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
HEAD = (
    "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\npools: [{name: llama, endpoints: ['a:1']}]\n"
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def installed(monkeypatch) -> None:
    """Install the page's package as far as Python can tell."""
    (source,), (project,) = blocks("python"), blocks("toml")
    assert len([line for line in source.splitlines() if line.strip() and not line.startswith("#")]) <= 10
    module = types.ModuleType("cheap_first")
    monkeypatch.setitem(sys.modules, "cheap_first", module)
    exec(source, module.__dict__)
    group, name, value = re.findall(r'"?([\w.-]+)"?\](?:\n)([\w-]+) = "([\w.:]+)"', project)[0]
    assert group == plugins.ENTRY_POINTS
    monkeypatch.setattr(plugins, "entry_points", lambda group: [EntryPoint(name, value, group)])


@pytest.mark.usefixtures("installed")
def test_the_scorer_of_the_page_decides():
    """Ten lines, an entry point and a configuration: the cheap server gets the request."""
    _, config = blocks("yaml")
    clock = Clock()
    assembly = assemble(parse(HEAD + config, EndpointPickerConfig))
    pool = Pool("llama", clock=clock)
    tiers = {"10.0.0.1:8000": "dear", "10.0.0.2:8000": "cheap", "10.0.0.3:8000": "dear"}
    pool.set_members(Endpoint(address, {"example.com/price": tier}) for address, tier in tiers.items())
    for address in tiers:
        pool.observe(address, Metrics(scraped_at=clock()))
    director = Director(
        {"llama": pool},
        assembly.scheduler,
        detector=assembly.detector,
        objectives=assembly.objectives,
        clock=clock,
        rng=random.Random(1),
        observer=Silent(),
        state=Alone(),
    )
    decision = director.pick(Ask(Digest("m"))).decision

    assert decision.servers[0].address == "10.0.0.2:8000"
    assert {scores.plugin: scores.raw for scores in decision.scores}["cheap-first-scorer"] == (0.0, 1.0, 0.0)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("number", range(len(blocks("yaml"))))
def test_every_configuration_on_the_page_is_good(number):
    """As it stands there."""
    assemble(parse(HEAD + blocks("yaml")[number], EndpointPickerConfig))


@pytest.mark.parametrize("kind", plugins.BUILTIN)
def test_the_page_tells_of_every_plugin_and_parameter(kind):
    """With the default, where it is a number."""
    assert f"`{kind}`" in PAGE
    factory = plugins.BUILTIN[kind]
    for name, parameter in inspect.signature(factory).parameters.items():
        if isinstance(parameter.default, bool | str | tuple):
            continue
        assert f"`{plugins._camel(name)}" in PAGE or f"{plugins._camel(name)}." in PAGE, f"{kind} {name}"
        if isinstance(parameter.default, int | float) and parameter.default:
            assert f"`{plugins._camel(name)}` {_number(parameter.default)}" in PAGE.replace("\n", " "), (
                f"{kind} {name}"
            )


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def test_nothing_is_both_there_and_refused():
    """Nor an old name for a new one."""
    assert not UNSUPPORTED.keys() & (plugins.BUILTIN.keys() | plugins.ALIASES.keys())
    assert set(plugins.ALIASES.values()) <= plugins.BUILTIN.keys()
