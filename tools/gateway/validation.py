"""What the real Envoy says to a configuration, without starting it."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path


def complaint(envoy: Path, config: str, syntax: str) -> str:
    """Return why the binary `envoy` refuses `config` ("yaml" or "json"); empty when it takes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"envoy.{syntax}"
        path.write_text(config)
        command = [str(envoy), "--mode", "validate", "--log-level", "error", "-c", str(path)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own binary
    return "" if run.returncode == 0 else run.stderr.strip() or f"envoy ended with {run.returncode}"
