"""Compare what two configurations, or a configuration and a record, make of recorded traffic."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from services.extproc.config import load
from services.safety.assemble import assemble
from services.safety.checks.registry import check_types
from services.safety.config import SafetyConfig
from services.safety.policy import Policies
from services.safety.providers.registry import provider_types
from services.safety.replay import Difference, differences, read, summary


def compare(recording: Path, config: Path, against: Path | None, show: Callable[[str], None]) -> bool:
    """Give each difference to `show`, the counts to stderr, and return whether there is none.

    Raises `ConfigError`, `ValueError` for a line that is no record, `LookupError` for a policy that is not there.
    """
    policies = policies_of(config)
    before = policies_of(against) if against else None
    found: list[Difference | None] = []
    with recording.open("rb") as lines:
        for difference in differences(read(lines), policies, before):
            found.append(difference)
            if difference is not None:
                show(str(difference))
    print(summary(found), file=sys.stderr)  # noqa: T201 - a command's output
    return not any(found)


def policies_of(path: Path) -> Policies:
    """Return the policies of a configuration file."""
    return assemble(load(path, SafetyConfig), check_types(), provider_types()).policies
