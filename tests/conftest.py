"""What every test starts from."""

from __future__ import annotations

import pytest
import structlog


@pytest.fixture(autouse=True)
def _untouched_logging():
    """Undo what starting a service configures for the whole process."""
    yield
    structlog.reset_defaults()
