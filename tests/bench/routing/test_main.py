"""The command that runs parts of the comparison."""

from __future__ import annotations

from click.testing import CliRunner

from bench.routing import diff
from bench.routing.__main__ import main
from bench.routing.store import load

ONE_CELL = ("--workloads", "unshared", "--loads", "below", "--scale", "0.02", "--jobs", "1")


def test_what_it_writes_can_be_compared(tmp_path):
    """By `bench.routing.diff`, which reads what is published too; there need not be anybody to lose to."""
    kept = tmp_path / "kept.json"
    result = CliRunner().invoke(main, [*ONE_CELL, "--policies", "default", "--json", str(kept)])
    assert result.exit_code == 0, result.output
    (found,) = load(kept).results
    assert (found.cell.workload, found.cell.policy) == ("unshared", "default")

    result = CliRunner().invoke(diff.main, [str(kept), str(kept)])
    assert result.exit_code == 0, result.output
    assert result.output == "0 figures of default moved by more than 2%; default loses 0 -> 0\n"
