"""Routing policies compared in virtual time.

    python -m bench.routing --workloads tenants,bursts --loads near,high,1.1 --policies default,smg --seeds 1,2

Loads are `below` (half of what round robin sustains), `near` (0.9 of it), `high` (0.9 of what the oracle sustains),
`past` (more than that), or multiples of what round robin sustains. `--set cost-scorer.foresight=0.5` changes a
parameter of the default profile.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bench.routing.cells import POINTS, Cell, Result, Settings, capacities, rate_of, run_all
from bench.routing.policies import POLICIES
from bench.routing.store import Kept, save
from bench.routing.table import text_table
from bench.routing.workloads import WORKLOADS
from bench.routing.workloads.traces import provenance


@click.command(help=__doc__)
@click.option("--workloads", default=",".join(WORKLOADS), show_default=True)
@click.option("--policies", default=",".join(POLICIES), show_default=True)
@click.option("--loads", default=",".join(POINTS), show_default=True)
@click.option("--seeds", default="1", show_default=True)
@click.option("--scale", default=1.0, show_default=True, help="Factor on the number of requests.")
@click.option("--jobs", default=2, show_default=True, help="Processes.")
@click.option(
    "--set", "settings", multiple=True, metavar="PLUGIN.PARAMETER=VALUE", help="Of the default profile."
)
@click.option(
    "--noise",
    default=0.0,
    show_default=True,
    help="Standard deviation of the logarithm of times told to the default.",
)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the results there.")
def main(
    workloads: str,
    policies: str,
    loads: str,
    seeds: str,
    scale: float,
    jobs: int,
    settings: Sequence[str],
    noise: float,
    output: Path | None,
) -> None:
    """Run and print."""
    known = capacities()
    cells = [
        Cell(workload, load, rate_of(workload, load, known[workload]), policy, int(seed), scale)
        for workload in _names(workloads, WORKLOADS)
        for load in _loads(loads)
        for policy in _names(policies, POLICIES)
        for seed in seeds.split(",")
    ]
    results = watch(cells, Settings(parsed(settings), noise), jobs)
    print(text_table(results))
    if output is not None:
        save(Kept(provenance(), results), output)


def watch(cells: Sequence[Cell], settings: Settings, jobs: int) -> list[Result]:
    """Run `cells` under a progress bar on the standard error."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("runs", total=len(cells))

        def done(result: Result) -> None:
            progress.update(task, advance=1, description=f"{result.cell.workload} {result.cell.load}")

        return run_all(cells, settings, jobs, done)


def parsed(settings: Sequence[str]) -> dict[str, dict[str, object]]:
    """Read `plugin.parameter=value`."""
    found: dict[str, dict[str, object]] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        plugin, dot, parameter = name.rpartition(".")
        if not (equals and dot):
            raise click.BadParameter(f"expected plugin.parameter=value, got {setting!r}", param_hint="--set")
        found.setdefault(plugin, {})[parameter] = float(value)
    return found


def _loads(given: str) -> list[str]:
    for load in (loads := given.split(",")):
        if load not in POINTS and not load.replace(".", "", 1).isdecimal():
            raise click.BadParameter(f"no {load!r}; there are {', '.join(POINTS)}, and numbers")
    return loads


def _names(given: str, known: Collection[str]) -> list[str]:
    names = given.split(",")
    for name in names:
        if name not in known:
            raise click.BadParameter(f"no {name!r}; there are {', '.join(known)}")
    return names


if __name__ == "__main__":
    main()
