"""The command line of a service, as a process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner

from services.extproc.config import ConfigError, Limits, Listen, Log
from services.extproc.lifecycle import App, Parts
from services.extproc.main import command, with_flags
from tests.extproc.kit import Fake
from tests.extproc.live import SERVING, health

ROOT = Path(__file__).parent.parent.parent


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    listen: Listen = msgspec.field(default_factory=lambda: Listen(port=9004))
    log: Log = msgspec.field(default_factory=Log)
    limits: Limits = msgspec.field(default_factory=Limits)
    redis: str = ""


@contextlib.asynccontextmanager
async def build(_: Config, __: Parts) -> AsyncIterator[App]:
    yield App(Fake())


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, Config()),
        ({"port": 1, "host": "::1"}, Config(listen=Listen(host="::1", port=1))),
        ({"port": 0}, Config(listen=Listen(port=0))),
        ({"health_port": 5}, Config(listen=Listen(port=9004, health_port=5))),
        ({"log_level": "debug"}, Config(log=Log(level="debug"))),
        ({"port": None, "log_level": None, "other": 3}, Config()),
    ],
)
def test_a_flag_overrides_the_file(flags, expected):
    """And one that is not given changes nothing."""
    assert with_flags(Config(), flags) == expected


def test_a_service_may_add_flags(tmp_path):
    """Their values go into its configuration; a bad one is a clear error."""

    @contextlib.asynccontextmanager
    async def build(config, parts):
        if config.redis:
            raise ConfigError(f"redis is {config.redis}")
        yield App(Fake())

    def override(config, flags):
        return msgspec.structs.replace(config, redis=flags["redis"])

    file = tmp_path / "epp.yaml"
    file.write_text("listen: {port: 0}")
    epp = command("epp", Config, build, options=[click.Option(["--redis"])], override=override)
    result = CliRunner().invoke(epp, ["--config", str(file), "--redis", "redis://x"])
    assert (result.exit_code, result.output) == (1, "Error: redis is redis://x\n")


def test_help_names_the_shared_flags():
    """And the default configuration."""
    result = CliRunner().invoke(command("bbr", Config, build), ["--help"])
    flags = (
        "--config",
        "config/bbr.yaml",
        "--host",
        "--port",
        "--health-port",
        "--metrics-port",
        "--log-level",
    )
    assert all(flag in result.output for flag in flags)


def configured(folder: Path, text: str) -> Path:
    file = folder / "a.yaml"
    file.write_text(text)
    return file


async def signalled(number: signal.Signals, config: Path) -> tuple[int | None, list[str]]:
    """Start a service, ask for its health, send it `number`; return its exit status and what it logged."""
    pipe = asyncio.subprocess.PIPE
    program = (sys.executable, "-m", "tests.extproc.a_service", "--config", str(config))
    process = await asyncio.create_subprocess_exec(*program, stdout=pipe, stderr=pipe, cwd=ROOT)
    assert process.stderr is not None
    first = json.loads(await process.stderr.readline())
    assert await health(first["port"], "readiness") == SERVING
    process.send_signal(number)
    _, rest = await process.communicate()
    return process.returncode, [first["event"], *(json.loads(line)["event"] for line in rest.splitlines())]


async def test_a_signal_ends_the_process_well(tmp_path):
    """It serves, drains, stops, and exits with 0; its log is JSON lines."""
    config = configured(tmp_path, "listen: {port: 0, health_port: 0, metrics_port: 0}")
    numbers = (signal.SIGTERM, signal.SIGINT)
    ended = await asyncio.gather(*(signalled(number, config) for number in numbers))
    assert ended == [(0, ["serving", "draining", "stopped"])] * 2


def test_a_taken_port_is_one_sentence_and_status_1(tmp_path, capfd):
    """No stack, and no line of gRPC's own."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = ["--config", str(configured(tmp_path, "{}")), "--port", str(port)]
        result = CliRunner().invoke(command("a", Config, build), arguments)
    assert result.exit_code == 1
    assert result.output == f"Error: cannot listen on 127.0.0.1 port {port}: Address already in use\n"
    assert capfd.readouterr() == ("", "")


def test_a_bad_file_is_one_sentence_and_status_1(tmp_path):
    """With file and place."""
    file = configured(tmp_path, "listen: {prot: 1}")
    result = CliRunner().invoke(command("a", Config, build), ["--config", str(file)])
    fields = "host, port, health_port, metrics_port, tls"
    unknown = "Object contains unknown field `prot` - at `$.listen`"
    expected = f"Error: {file}: {unknown}; expected one of: {fields}"
    assert result.exit_code == 1
    assert result.output.startswith(expected)
