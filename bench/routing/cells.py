"""What is run: cells of workload, load, policy and seed; in several processes, with one result each."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import msgspec

from bench.routing.measure import Row, measure
from bench.routing.policies import DEFAULT, POLICIES
from bench.routing.policies.base import Policy, Surroundings
from bench.routing.policies.picker import Picker
from bench.routing.workloads import WORKLOADS
from bench.routing.workloads.base import Planned, arrivals
from bench.routing.world import World

CAPACITY = Path(__file__).parent / "capacity.json"


class Capacity(msgspec.Struct, frozen=True):
    """The rate, in requests per second, up to which nine in ten requests are answered within the objectives."""

    round_robin: float
    oracle: float


class Settings(msgspec.Struct, frozen=True):
    """What is unlike the published runs, for the default policy alone."""

    parameters: Mapping[str, Mapping[str, object]] = {}
    """Of the default profile's plugins, by type."""
    noise: float = 0.0
    """Standard deviation, in logarithms, of what the picker is told that a request took."""


AS_PUBLISHED = Settings()


class Cell(msgspec.Struct, frozen=True, array_like=True):
    """One run to be made."""

    workload: str
    load: str
    rate: float
    """Requests per second."""
    policy: str
    seed: int
    scale: float = 1.0
    """Against the workload's usual number of requests."""


class Result(msgspec.Struct, frozen=True, array_like=True):
    """One run that was made."""

    cell: Cell
    row: Row


def capacities() -> dict[str, Capacity]:
    """Return what `bench.routing.capacity` measured, by workload."""
    return msgspec.json.decode(CAPACITY.read_bytes(), type=dict[str, Capacity])


POINTS: Mapping[str, tuple[str, float]] = {
    "below": ("round_robin", 0.5),
    "near": ("round_robin", 0.9),
    "high": ("oracle", 0.9),
    "past": ("oracle", 0.0),
}
"""Loads by name: a share of what round robin or the oracle sustains; past saturation is the workload's own."""


def rate_of(workload: str, load: str, capacity: Capacity) -> float:
    """Return requests per second of a load, which is a name of `POINTS` or a multiple of round robin's capacity."""
    if load not in POINTS:
        return float(load) * capacity.round_robin
    whose, share = POINTS[load]
    return (share or WORKLOADS[workload].overload) * float(getattr(capacity, whose))


def run(cell: Cell, settings: Settings = AS_PUBLISHED) -> Result:
    """Play one cell."""
    workload = WORKLOADS[cell.workload]
    coming = arrivals(_planned(cell.workload, cell.seed, cell.scale), cell.rate)
    world = World(policy_of(cell.policy, settings), workload.fleet, coming, cell.seed)
    return Result(cell, measure(world.run(), workload.fleet, coming[-1][0]))


def policy_of(name: str, settings: Settings) -> Callable[[Surroundings], Policy]:
    """Return the policy called `name`; `settings` are for the default alone."""
    if name != DEFAULT:
        return POLICIES[name]
    return functools.partial(Picker, parameters=settings.parameters, noise=settings.noise)


@functools.lru_cache(maxsize=2)
def _planned(workload: str, seed: int, scale: float) -> list[Planned]:
    return WORKLOADS[workload].plan(seed, scale)


def run_all(
    cells: Sequence[Cell], settings: Settings, jobs: int, done: Callable[[Result], None]
) -> list[Result]:
    """Run `cells` in `jobs` processes, tell `done` of each as it ends, and return the results in the cells' order."""
    found: dict[Cell, Result] = {}
    for result in _results(cells, settings, jobs):
        found[result.cell] = result
        done(result)
    return [found[cell] for cell in cells]


def _results(cells: Sequence[Cell], settings: Settings, jobs: int) -> Iterator[Result]:
    if jobs == 1:
        yield from (run(cell, settings) for cell in cells)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.submit(_batch, batch, settings) for batch in _batches(cells)]):
                yield from future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _batches(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Group cells so that a workload is drawn once for several policies."""
    groups: dict[tuple[str, int, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.workload, cell.seed, cell.load), []).append(cell)
    return list(groups.values())


def _batch(cells: Sequence[Cell], settings: Settings) -> list[Result]:
    return [run(cell, settings) for cell in cells]
