# noqa: INP001 - a script of the images, not a package
"""Health check of every image: exit status 0 when the server named in the one argument is ready.

`grpc://HOST:PORT` asks the gRPC health service about `readiness`; `http://…` must answer 200.
"""

from __future__ import annotations

import http.client
import sys
import urllib.parse
from collections.abc import Callable

READINESS = b"\x0a\x09readiness"  # grpc.health.v1.HealthCheckRequest: field 1, nine bytes
SERVING = b"\x08\x01"  # grpc.health.v1.HealthCheckResponse: field 1, the value 1
TIMEOUT = 3.0  # seconds; below the timeout that the images' HEALTHCHECK sets


def ready(url: str) -> bool:
    """Ask the server at `url` whether it takes requests; False also when nobody answers."""
    target = urllib.parse.urlsplit(url)
    return _grpc_ready(target.netloc) if target.scheme == "grpc" else _http_ready(target.netloc, target.path)


def _http_ready(address: str, path: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT)
    try:
        connection.request("GET", path or "/")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _grpc_ready(address: str) -> bool:
    import grpc  # noqa: PLC0415 - the mock's check does without its 130 ms

    with grpc.insecure_channel(address) as channel:
        check: Callable[..., object] = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            return check(READINESS, timeout=TIMEOUT) == SERVING
        except grpc.RpcError:
            return False


if __name__ == "__main__":
    sys.exit(not ready(sys.argv[1]))
