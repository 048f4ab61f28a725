"""Which checks a configuration can name. The built-in rules need no name: a policy's actions choose among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points

from services.safety.checks.base import Check, PromptCheck
from services.safety.checks.exfiltration import UrlExfiltration
from services.safety.checks.new_secret import NewSecret
from services.safety.checks.prompt_leak import PromptLeak
from services.safety.checks.urls import urls

GROUP = "inference_gateway.safety.checks"
"""The entry-point group of other packages' checks."""

Parameters = Mapping[str, object]
"""As YAML gives them."""
CheckFactory = Callable[[Parameters], Check | PromptCheck]
"""Makes a check of its parameters; raises `ValueError` for parameters that are wrong."""

CHECKS: Mapping[str, CheckFactory] = {
    "new-secret": NewSecret,
    "prompt-leak": PromptLeak,
    "url-exfiltration": UrlExfiltration,
    "urls": urls,
}
"""Our own check types beside the rules."""


def check_types() -> dict[str, CheckFactory]:
    """Return our own check types and those of installed packages; a name that is taken raises `ValueError`."""
    found = dict(CHECKS)
    for entry in entry_points(group=GROUP):
        if entry.name in found:
            raise ValueError(f"check type {entry.name!r} of {entry.value} is already taken")
        found[entry.name] = entry.load()
    return found
