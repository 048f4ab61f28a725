"""`python -m bench.replicas`: what several replicas of the endpoint picker lose, gain and cost. Run by `make bench-replicas`.

The load is bounded so that two cores carry everything: the whole stack, up to eight pickers, eight model servers that
are half as fast as an H100, and the client. Each run has a stack of its own and begins with empty caches.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import click
import msgspec

from bench.chain.machine import machine
from bench.replicas import cost, scaling, traffic, virtual, weathering
from bench.replicas.faults import FAULTS
from bench.replicas.stack import Setup
from bench.routing.workloads.traces import FOLDER
from tools.gateway.ports import PortError

RESULT = Path(__file__).parents[1] / "results/replicas.json"
REPLICAS = (1, 2, 4, 8)
TRACE_RATE = 1.5
LOADS, STATES = ("conversations", "trace"), (scaling.SHARED, scaling.ALONE)
MOST_COMPARED = 2
"""More pickers, twice, on two cores would measure the machine."""
Measurement = Callable[[Setup, Path], Awaitable[tuple[str, Sequence[object]]]]


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """How much, and of what."""

    seconds: float
    rate: float
    trace: Path
    replicas: Sequence[int]
    seed: int
    rounds: int
    faults: Sequence[str]
    loads: Sequence[str]
    states: Sequence[str]


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(["virtual", "scaling", "cost", "faults"]))
@click.option("--seconds", default=60.0, show_default=True, help="Of each load.")
@click.option(
    "--rate",
    default=12.0,
    show_default=True,
    help="Conversations' requests a second; the trace has half as many again.",
)
@click.option("--replicas", default=",".join(map(str, REPLICAS)), show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--rounds", default=6, show_default=True, help="Of the comparison of CPU time.")
@click.option(
    "--load",
    "loads",
    multiple=True,
    type=click.Choice(LOADS),
    default=LOADS,
    show_default=True,
    help="Of scaling; repeatable.",
)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(STATES),
    default=STATES,
    show_default=True,
    help="Of scaling; repeatable.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    type=click.Choice([fault.name for fault in FAULTS]),
    help="Only this one; repeatable. The others keep their results.",
)
@click.option("--port-offset", default=12_000, show_default=True)
@click.option(
    "--trace",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A Mooncake trace; by default the published conversation trace where there is one, else the stand-in.",
)
@click.option("--output", type=click.Path(path_type=Path), default=RESULT, help="Where the JSON goes.")
def main(
    parts: tuple[str, ...],
    seconds: float,
    rate: float,
    replicas: str,
    seed: int,
    rounds: int,
    faults: tuple[str, ...],
    loads: tuple[str, ...],
    states: tuple[str, ...],
    port_offset: int,
    trace: Path | None,
    output: Path,
) -> None:
    """Measure PARTS (virtual, scaling, cost, faults; all without any) and print tables; parts that are not run keep their results."""
    found = trace or (traffic.PUBLISHED if traffic.PUBLISHED.exists() else traffic.STAND_IN)
    counts = [int(count) for count in replicas.split(",")]
    measurements = _measurements(Load(seconds, rate, found, counts, seed, rounds, faults, loads, states))
    results = msgspec.json.decode(output.read_bytes(), type=dict[str, object]) if output.exists() else {}
    results["machine"] = machine()
    for part in parts or measurements:
        with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder:
            base = Setup(1, speed=0.5, port_offset=port_offset)
            try:
                table, rows = asyncio.run(_run(measurements[part], base, Path(folder)))
            except PortError as error:
                raise click.ClickException(str(error)) from error
        results[part] = _merged(part, results.get(part), rows)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
        print(f"{table}\n")


KEYS = {"scaling": ("load", "replicas", "shared"), "cost": ("replicas",), "faults": ("fault",)}
"""By what a row is known, of which one run measures some and another run others."""


def _merged(part: str, before: object, rows: Sequence[object]) -> list[object]:
    """Return `rows` and those of `before` that are of something else."""
    found = msgspec.to_builtins(rows)
    if part not in KEYS or not isinstance(before, list):
        return list(found)
    new = {tuple(row[key] for key in KEYS[part]) for row in found}
    return [*(row for row in before if tuple(row[key] for key in KEYS[part]) not in new), *found]


async def _run(measurement: Measurement, base: Setup, folder: Path) -> tuple[str, Sequence[object]]:
    return await measurement(base, folder)


def _measurements(load: Load) -> Mapping[str, Measurement]:
    async def measure_scaling(base: Setup, folder: Path) -> tuple[str, Sequence[object]]:
        loads = {
            "conversations": traffic.chats(load.seconds, rate=load.rate, seed=load.seed),
            "trace": traffic.trace(load.trace, load.seconds, rate=TRACE_RATE * load.rate),
        }
        chosen = {name: loads[name] for name in load.loads}
        rows = await scaling.table(chosen, load.replicas, base, folder / "run", load.states)
        return scaling.markdown(rows), rows

    async def measure_cost(base: Setup, folder: Path) -> tuple[str, Sequence[object]]:
        rows = [
            await cost.measure(
                dataclasses.replace(base, replicas=count), rounds=load.rounds, requests=400, folder=folder
            )
            for count in load.replicas
            if count <= MOST_COMPARED
        ]
        return cost.markdown(rows), rows

    async def measure_faults(base: Setup, folder: Path) -> tuple[str, Sequence[object]]:
        rows = await weathering.table(
            base,
            weathering.Times(),
            rate=load.rate,
            seed=load.seed,
            folder=folder / "faults",
            only=load.faults,
        )
        return weathering.markdown(rows), rows

    async def measure_virtual(_: Setup, __: Path) -> tuple[str, Sequence[object]]:
        os.environ.setdefault(FOLDER, str(load.trace.parent))
        cells = list(virtual.table(load.replicas, list(virtual.LOADS)))
        return virtual.markdown(cells), cells

    return {
        "virtual": measure_virtual,
        "scaling": measure_scaling,
        "cost": measure_cost,
        "faults": measure_faults,
    }


if __name__ == "__main__":
    main()
