from __future__ import annotations

from pathlib import Path

import pytest

from services.bbr.config import Config
from services.bbr.rules import Resolution, UnknownModels
from services.extproc.config import ConfigError, load, parse
from tests.bbr.world import way

FILE = Path(__file__).parents[2] / "config" / "bbr.yaml"


def test_the_shipped_file_is_the_demo():
    """Its models, adapters and alias; its ports; and no more bytes than the largest route lets in."""
    config = load(FILE, Config)
    rules = config.rules()
    assert list(rules.ways) == [
        "llama-3.1-8b-instruct",
        "food-review",
        "cad-fabricator",
        "chatbot",
        "recommender",
        "llama",
    ]
    assert way(rules, "llama") == Resolution(
        "llama-3.1-8b-instruct", "llama-3.1-8b-instruct", rewritten=True, rule="alias"
    )
    assert rules.unknown is UnknownModels.REJECT
    assert (config.listen.port, config.listen.health_port, config.listen.metrics_port) == (9004, 9005, 9094)


def test_a_file_needs_only_its_models():
    """Everything else has a default, the reference's ports among them."""
    config = parse("models: [{name: m}]", Config)
    assert (config.listen.port, config.listen.health_port) == (9004, 9005)
    assert way(config.rules(), "m") == Resolution("m", "m")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"models"),
        ("models: [{nam: m}]", r"nam.*\$\.models\[0\]|\$\.models\[0\]"),
        ("models: [{name: m}]\nmodel: x", "model"),
        ("models: [{name: m}]\nunknown_models: ignore", r"\$\.unknown_models"),
        ("models: [{name: m, adapters: a}]", r"\$\.models\[0\]\.adapters"),
        ("models: [{name: m, created: -1}]", r"\$\.models\[0\]\.created"),
        ("models: [{name: m}]\naliases: {a: b}", "no model or adapter: b"),
        ("models: [{name: m}, {name: m}]", "more than once: m"),
        ("models: [{name: m}]\naliases: {a: m, a: m}", "'a' stands twice"),
    ],
)
def test_a_mistake_is_told_with_its_place(text, message):
    """At start, not at the first request."""
    with pytest.raises(ConfigError, match=message):
        parse(text, Config, name="bbr.yaml")
