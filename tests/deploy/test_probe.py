"""The images' health check: `deploy/probe.py` against real servers on loopback."""

from __future__ import annotations

import contextlib
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

PROBE = Path(__file__).parents[2] / "deploy/probe.py"


def probe(url: str) -> int:
    """Run the script as Docker does and return its exit status."""
    return subprocess.run([sys.executable, PROBE, url], timeout=30, check=False).returncode


@contextlib.contextmanager
def grpc_server(status: int, service: str = "readiness") -> Iterator[str]:
    """Serve gRPC health with one service in the given state."""
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    state = health.HealthServicer()
    state.set(service, status)
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"grpc://127.0.0.1:{port}"
    server.stop(None).wait()


@contextlib.contextmanager
def http_server(status: int) -> Iterator[str]:
    """Answer every GET with `status`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Stay quiet."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/health"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "expected"), [("SERVING", 0), ("NOT_SERVING", 1)])
def test_grpc_service_is_ready_when_it_says_so(status: str, expected: int) -> None:
    """A draining service counts as not healthy."""
    with grpc_server(health_pb2.HealthCheckResponse.ServingStatus.Value(status)) as url:
        assert probe(url) == expected


def test_grpc_service_without_readiness_is_not_healthy() -> None:
    """A server that knows no such name answers NOT_FOUND."""
    with grpc_server(health_pb2.HealthCheckResponse.SERVING, service="other") as url:
        assert probe(url) == 1


@pytest.mark.parametrize(("status", "expected"), [(200, 0), (503, 1)])
def test_http_server_is_healthy_when_it_answers_200(status: int, expected: int) -> None:
    """Any other status is a failure."""
    with http_server(status) as url:
        assert probe(url) == expected


@pytest.mark.parametrize("url", ["grpc://127.0.0.1:1", "http://127.0.0.1:1/health"])
def test_nobody_there_is_not_healthy(url: str) -> None:
    """A refused connection is an exit status, not a stack trace."""
    result = subprocess.run([sys.executable, PROBE, url], timeout=30, check=False, capture_output=True)
    assert (result.returncode, result.stderr) == (1, b"")
