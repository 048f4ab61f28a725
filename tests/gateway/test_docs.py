"""What docs/routing.md shows of Envoy's routes is what runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.extproc.config import parse
from tools.gateway.binaries import find
from tools.gateway.envoy.addresses import COMPOSE
from tools.gateway.envoy.bootstrap import build, to_json
from tools.gateway.routes import Routes
from tools.gateway.validation import complaint

TEXT = (
    (Path(__file__).parents[2] / "docs" / "routing.md")
    .read_text()
    .partition("\n## Envoy")[2]
    .partition("\n## ")[0]
)
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


def test_there_are_examples():
    """Or the tests below would hold for nothing."""
    assert len(EXAMPLES) == 4


@pytest.mark.e2e
@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_file_that_envoy_takes(example):
    """Every example is whole."""
    routes = parse(example, Routes, name="routes.yaml")
    assert complaint(find().envoy, to_json(build(routes, COMPOSE)), "json") == ""
