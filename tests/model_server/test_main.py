"""The command line."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest


@pytest.fixture
def port() -> int:
    """Return a port that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def process(port: int) -> Iterator[subprocess.Popen[str]]:
    """Start a server with most flags, and wait for the line that says it listens."""
    options = (
        "--name m1 --model big --root org/big --adapter red --adapter blue --max-adapters 1 --kv-blocks 100"
    )
    command = [sys.executable, "-m", "tools.model_server", "--port", str(port), *options.split()]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if "serves big on" in line:
                break
        yield running
        running.kill()


def test_flags_make_the_server(process, port):
    """Names, adapters and sizes are those of the command line."""
    url = f"http://127.0.0.1:{port}"
    assert [m["id"] for m in httpx.get(url + "/v1/models").json()["data"]] == ["big", "red", "blue"]
    metrics = httpx.get(url + "/metrics").text
    assert 'num_gpu_blocks="100"' in metrics
    assert 'max_lora="1"' in metrics
    answer = httpx.post(url + "/v1/completions", json={"model": "org/big", "prompt": "x", "max_tokens": 1})
    assert answer.json()["system_fingerprint"] == "m1"


def test_a_signal_ends_it_cleanly(process):
    """Status 0, no trace."""
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_a_port_in_use_is_one_sentence(port):
    """Status 1 and what is wrong."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        command = [sys.executable, "-m", "tools.model_server", "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 1
    assert done.stderr.strip() == f"Error: cannot listen on 127.0.0.1:{port}: Address already in use"
