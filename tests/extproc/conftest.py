from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Let `envoy_data_plane` be imported although it uses a form of validator that pydantic will drop."""
    config.addinivalue_line("filterwarnings", "ignore:Using `@model_validator` with mode='after'")
