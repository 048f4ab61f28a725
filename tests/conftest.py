"""What every test starts from."""

from __future__ import annotations

import hypothesis
import pytest
import structlog

# A loaded machine is slow, which says nothing about the code; and a run that failed must fail again.
hypothesis.settings.register_profile(
    "here",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("here")


@pytest.fixture(autouse=True)
def _untouched_logging():
    """Undo what starting a service configures for the whole process."""
    yield
    structlog.reset_defaults()
