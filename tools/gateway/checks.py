"""Is a configuration file right? By its name, else by its keys; and do the files fit each other?"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import yaml

from tools.gateway.routes import Routes

ROUTES = "routes"


class ConfigError(ValueError):
    """A file that cannot be used. The message names file and place, and says what was expected."""


def read_routes(path: Path) -> Routes:
    """Return the routes of `path`. Raises `ConfigError`."""
    try:
        return msgspec.convert(read_mapping(path), Routes)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error


def read_mapping(path: Path) -> Mapping[str, object]:
    """Return the YAML mapping of `path`. Raises `ConfigError`."""
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(f"{path}: cannot be read: {reason}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: expected a mapping at the top")
    return found
