"""The recorded streams, for tests that want to hear Envoy's own words."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
"""Every recorded scenario."""


def messages(name: str) -> list[bytes]:
    """Return the raw `ProcessingRequest`s of the scenario `name`, in order."""
    recorded = json.loads((FOLDER / f"{name}.json").read_text())["messages"]
    return [bytes.fromhex(message["hex"]) for message in recorded]


def kinds(name: str) -> list[str]:
    """Return the kinds of the messages of the scenario `name`, such as `request_headers`."""
    return [message["kind"] for message in json.loads((FOLDER / f"{name}.json").read_text())["messages"]]
