"""Results as SVG, one figure for each workload. Equal results give equal files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.routing.cells import Result
from bench.routing.policies import DEFAULT, ORACLE, POLICIES
from bench.routing.verdict import Table, cells_of, means

PANELS: Mapping[str, tuple[str, str]] = {
    "ttft_p90": ("TTFT p90, ms", "log"),
    "ttft_p99": ("TTFT p99, ms", "log"),
    "tpot_p99": ("TPOT p99, ms", "log"),
    "goodput": ("in time, %", "linear"),
}


def draw(results: Sequence[Result], folder: Path) -> list[Path]:
    """Write `<workload>.svg` into `folder` for each workload; return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    table = means(results)
    rates = {(r.cell.workload, r.cell.load): r.cell.rate for r in results}
    written = []
    # A fixed salt and no date: equal results give equal bytes.
    with mpl.rc_context({"svg.hashsalt": "routing", "svg.fonttype": "none", "font.size": 8}):
        for workload in dict.fromkeys(workload for workload, _ in cells_of(table)):
            path = folder / f"{workload}.svg"
            figure = _figure(
                table, workload, {load: rates[at, load] for at, load in cells_of(table) if at == workload}
            )
            figure.savefig(path, metadata={"Date": None, "Creator": None})
            written.append(path)
    return written


def _figure(table: Table, workload: str, rates: Mapping[str, float]) -> Figure:
    figure = Figure(figsize=(11, 3.1), layout="constrained")
    axes = figure.subplots(1, len(PANELS))
    for axis, (metric, (label, scale)) in zip(axes, PANELS.items(), strict=True):
        for number, policy in enumerate(POLICIES):
            points = sorted((rate, table[workload, load, policy][metric]) for load, rate in rates.items())
            factor = 100 if metric == "goodput" else 1
            axis.plot(
                [rate for rate, _ in points],
                [factor * value for _, value in points],
                label=policy,
                color="black" if policy == DEFAULT else f"C{number % 10}",
                linewidth=2.2 if policy == DEFAULT else 1.0,
                linestyle="--" if policy == ORACLE else "-",
                marker=".",
                markersize=3,
            )
        axis.set(title=label, xlabel="requests/s", yscale=scale)
        axis.grid(visible=True, alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    figure.suptitle(workload)
    return figure
