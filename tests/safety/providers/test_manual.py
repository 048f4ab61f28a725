"""The code in docs/providers.md runs as it stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import msgspec
import pytest
import yaml

from services.openai.texts import Kind, Text
from services.safety.checks.registry import check_types
from services.safety.providers.base import Context
from services.safety.providers.registry import PROVIDERS, provider_types
from services.safety.verdict import Action, Direction
from tests.safety import kit
from tests.safety.providers.test_contract import DOCS, judge, text

BLOCKS = re.findall(r"```(\w+)\n(.*?)```", DOCS.read_text(), re.DOTALL)


def block(language, word):
    (found,) = [code for kind, code in BLOCKS if kind == language and word in code]
    return found


async def test_the_example_server_is_a_provider():
    """In thirty lines or so, asked by our own client."""
    code = block("python", "safety_pb2")
    assert len([line for line in code.splitlines() if line.strip()]) <= 30
    names: dict[str, object] = {"__name__": "example"}
    exec(compile(code, "docs/providers.md", "exec"), names)
    server, port = await names["serve"]("127.0.0.1:0")  # type: ignore[operator]  # a coroutine function
    made = PROVIDERS["grpc"]({"address": f"127.0.0.1:{port}"})
    try:
        verdict = await judge(made, text("of Bluebird"))
    finally:
        await made.close()
        await server.stop(0)
    assert verdict.action is Action.REDACT
    ((_, found),) = verdict.findings
    assert (found.start, found.end, found.category) == (3, 11, "secret")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install the manual's package."""
    code = block("python", "class Ticket") + block("python", "class Shouting")
    (tmp_path / "my_package.py").write_text(code)
    dist = tmp_path / "my_package-1.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1\n")
    entries = re.sub(r'\[project\.entry-points\."(.*?)"\]', r"[\1]", block("toml", "ticket")).replace('"', "")
    (dist / "entry_points.txt").write_text(entries)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("my_package", None)


def test_another_packages_check_runs_by_entry_point(package):
    """Named in the configuration, redacting like a rule."""
    config = """
checks: {tickets: {type: ticket, parameters: {prefix: GW}}}
policies: {default: {response: {actions: [{match: [internal], action: redact}], checks: [tickets]}}}
"""
    side = kit.policies(config, checks=check_types()).choose("m").response
    found = [finding for check in side.checks for finding in check.scan("see GW-123.")]
    assert [(one.start, one.end, side.action(one)) for one in found] == [(4, 10, Action.REDACT)]


@pytest.mark.parametrize(("said", "action"), [("HELLO THERE", Action.BLOCK), ("hello", Action.ALLOW)])
async def test_another_packages_provider_runs_by_entry_point(package, said, action):
    """Beside our own types."""
    types = provider_types()
    assert set(PROVIDERS) < set(types)
    asked = Text(("a",), ("a",), "user", Kind.CONTENT, said)
    made = types["shouting"]({"limit": 5})
    verdict = await made.judge([asked], Context(Direction.PROMPT, "m", "p"), 0.0)
    assert verdict.action is action


def test_the_manuals_configuration_is_valid(tmp_path):
    """Provider by provider, and as a whole."""
    code = block("yaml", "type: model-armor")
    token = tmp_path / "token"
    token.write_text("t")
    providers = yaml.safe_load(code.replace("/var/run/secrets/model-armor-token", str(token)))["providers"]
    for provider in providers.values():
        PROVIDERS[provider["type"]](provider["parameters"])
    side = kit.policies(code, providers=PROVIDERS).choose("m").prompt
    assert [use.name for use in side.providers] == ["armor", "names"]


def test_every_parameter_in_the_manuals_table_exists():
    """The second table names what the Structs have."""
    rows = re.findall(r"^\| `([a-z-]+)` \| (`.*?) \|", Path(DOCS).read_text(), re.MULTILINE)
    assert [kind for kind, _ in rows] == list(PROVIDERS)
    for kind, cell in rows:
        for name in re.findall(r"`(\w+)`", cell):
            with pytest.raises(msgspec.ValidationError) as error:
                PROVIDERS[kind]({name: object()})
            assert "unknown field" not in str(error.value)
