"""The command that runs parts of the comparison."""

from __future__ import annotations

from click.testing import CliRunner

from bench.routing.__main__ import main
from bench.routing.store import load


def test_what_it_writes_can_be_compared(tmp_path):
    """By `bench.routing.diff`, which reads what is published too."""
    kept = tmp_path / "kept.json"
    arguments = [
        "--workloads",
        "unshared",
        "--loads",
        "below",
        "--policies",
        "random",
        "--scale",
        "0.02",
        "--jobs",
        "1",
    ]
    result = CliRunner().invoke(main, [*arguments, "--json", str(kept)])
    assert result.exit_code == 0, result.output
    (found,) = load(kept).results
    assert (found.cell.workload, found.cell.policy) == ("unshared", "random")
