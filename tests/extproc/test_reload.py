"""A changed file is taken as a whole or refused, told of once, and never holds anything up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from services.extproc.config import ConfigError
from services.extproc.lifecycle import Parts, Source
from services.extproc.reload import Follower, following


class Taken:
    """Takes texts, except those that say `bad`."""

    def __init__(self, path: Path, waiting: Sequence[str] = ()) -> None:
        self.path = path
        self.waiting = waiting
        self.texts: list[str] = []
        self.reports: list[bool] = []
        self.follower = Follower(path, self.take, self.reports.append)

    async def take(self) -> Sequence[str]:
        text = self.path.read_text()
        if "bad" in text:
            raise ConfigError(f"{self.path.name}: {text}")
        self.texts.append(text)
        return self.waiting


async def test_a_bad_file_is_told_of_once_and_then_waits_for_a_good_one(tmp_path):
    """Looks without a change do nothing; a file that is away for a moment is waited for."""
    path = tmp_path / "a.yaml"
    path.write_text("one")
    taken = Taken(path, waiting=["listen"])
    with structlog.testing.capture_logs() as logs:
        await taken.follower.look()
        path.write_text("a bad one")
        await taken.follower.look()
        await taken.follower.look()
        path.unlink()
        await taken.follower.look()
        path.write_text("another one")
        await taken.follower.look()

    assert taken.texts == ["another one"]
    assert taken.reports == [False, True]
    assert [entry["event"] for entry in logs] == ["config_refused", "config_taken", "config_needs_restart"]
    assert logs[0]["error"] == "a.yaml: a bad one"
    assert logs[2]["keys"] == ["listen"]


async def test_a_link_that_turns_to_another_file_is_a_change(tmp_path):
    """Kubernetes mounts a ConfigMap so."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    path = tmp_path / "a.yaml"
    path.symlink_to(tmp_path / "one")
    taken = Taken(path)
    path.unlink()
    path.symlink_to(tmp_path / "two")
    await taken.follower.look()

    assert taken.texts == ["two"]


async def test_files_that_the_configuration_names_are_looked_at_too(tmp_path):
    """A change of one is a change of all; another one may be named by then."""
    path, other = tmp_path / "a.yaml", tmp_path / "rules.yaml"
    path.write_text("one")
    other.write_text("rules")
    taken = Taken(path)
    taken.follower = Follower(path, taken.take, taken.reports.append, lambda: [other])
    other.write_text("more rules")
    await taken.follower.look()
    await taken.follower.look()

    assert taken.texts == ["one"]


async def test_metrics_and_health_tell_how_the_last_change_went(tmp_path):
    """People see it; balancers, who ask for other names, do not."""
    path = tmp_path / "a.yaml"
    path.write_text("one")
    parts = Parts(registry=CollectorRegistry(), source=Source(path, path.read_text))
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def apply(text: str) -> Sequence[str]:
        seen.put_nowait(text)
        if text == "bad":
            raise ConfigError(text)
        return ()

    def value(name: str, **labels: str) -> float | None:
        return parts.registry.get_sample_value(f"x_config_{name}", labels)

    async with following("x", parts, str, apply, interval=0.001):
        assert (value("last_reload_successful"), parts.details["config"].ready) == (1, True)
        path.write_text("bad")
        await seen.get()
        await parts.details["config"].change()
        assert (value("last_reload_successful"), parts.details["config"].ready) == (0, False)
        path.write_text("better")
        await seen.get()
        await parts.details["config"].change()
        assert (value("last_reload_successful"), parts.details["config"].ready) == (1, True)
    assert (value("reloads_total", result="success"), value("reloads_total", result="failure")) == (1, 1)
    assert parts.readiness.ready


async def test_without_a_file_there_is_nothing_to_follow():
    """A service that is handed its configuration runs the same."""
    parts = Parts(registry=CollectorRegistry())

    async def apply(_: str) -> Sequence[str]:
        return ()

    async with following("x", parts, str, apply):
        assert parts.details == {}
