"""The engine against published figures."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from bench.routing.calibrate import CALIBRATION, NIM_8B, NIM_70B, Clients, main
from bench.routing.workloads.traces import FOLDER
from tools.model_server.constants import LLAMA_8B_NIM, LLAMA_70B_NIM


@pytest.mark.parametrize("line", NIM_70B[:3], ids=lambda line: f"{line.concurrency}-clients")
def test_a_70b_model_is_as_fast_as_published(line):
    """Between tokens and in all within a twentieth."""
    modelled = Clients(LLAMA_70B_NIM, line.concurrency, 5000, 500).play(4)

    assert modelled.itl == pytest.approx(line.itl, rel=0.05)
    assert modelled.throughput == pytest.approx(line.throughput, rel=0.05)


def test_an_8b_model_is_as_fast_as_published():
    """One client and twenty-five, within a tenth; its table's lengths are an assumption."""
    for line in NIM_8B[:2]:
        modelled = Clients(LLAMA_8B_NIM, line.concurrency, 200, 1000).play(4)
        assert modelled.itl == pytest.approx(line.itl, rel=0.1)
        assert modelled.throughput == pytest.approx(line.throughput, rel=0.1)


def test_nothing_is_compared_without_the_trace(monkeypatch):
    """The published reuse is the trace's; what is kept stays."""
    monkeypatch.delenv(FOLDER, raising=False)
    kept = CALIBRATION.read_bytes()
    result = CliRunner().invoke(main)

    assert result.exit_code == 2
    assert FOLDER in result.output
    assert CALIBRATION.read_bytes() == kept
