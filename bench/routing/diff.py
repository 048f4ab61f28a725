"""What changed between two runs of the comparison.

    python -m bench.routing.diff old.json new.json
    git show HEAD:bench/results/routing.json > /tmp/old.json; python -m bench.routing.diff /tmp/old.json

Means over the seeds of one policy, cell by cell; better is less time, or more of the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from bench.routing.cells import Result
from bench.routing.policies import DEFAULT
from bench.routing.store import RESULT, load
from bench.routing.verdict import HIGHER, LOWER, Table, cells_of, losses, means


@dataclass(frozen=True, slots=True)
class Change:
    """One figure that moved."""

    workload: str
    load: str
    metric: str
    before: float
    after: float

    @property
    def factor(self) -> float:
        """Above 1 is better."""
        worse, better = (self.after, self.before) if self.metric in LOWER else (self.before, self.after)
        return better / worse if worse else (1.0 if better == worse else float("inf"))


def changes(before: Table, after: Table, policy: str, least: float) -> Iterator[Change]:
    """Yield the figures of `policy` that moved by more than `least`, a share, in cells that both have."""
    for workload, load_ in cells_of(after):
        old, new = before.get((workload, load_, policy)), after.get((workload, load_, policy))
        if old is None or new is None:
            continue
        for metric in (*LOWER, *HIGHER, "hits"):
            change = Change(workload, load_, metric, old[metric], new[metric])
            if abs(change.factor - 1) > least:
                yield change


@click.command(help=__doc__)
@click.argument("old", type=click.Path(exists=True, path_type=Path))
@click.argument("new", type=click.Path(exists=True, path_type=Path), default=RESULT)
@click.option("--policy", default=DEFAULT, show_default=True)
@click.option("--least", default=0.02, show_default=True, help="Leave out smaller changes.")
def main(old: Path, new: Path, policy: str, least: float) -> None:
    """Print the changes, worst first."""
    before, after = load(old).results, load(new).results
    if _rates(before) != _rates(after):
        print("The loads differ: capacities, seeds or lengths of the runs have changed.")
    found = sorted(changes(means(before), means(after), policy, least), key=lambda change: change.factor)
    for change in found:
        print(
            f"{change.workload:13} {change.load:6} {change.metric:11} {change.before:10.4g} -> {change.after:10.4g}  "
            f"{'worse' if change.factor < 1 else 'better'} {change.factor:.2f}"
        )
    was, now = len(losses(before)), len(losses(after))
    print(f"{len(found)} figures of {policy} moved by more than {least:.0%}; default loses {was} -> {now}")


def _rates(results: Sequence[Result]) -> set[tuple[str, str, float, int, float]]:
    return {(r.cell.workload, r.cell.load, r.cell.rate, r.cell.seed, r.cell.scale) for r in results}


if __name__ == "__main__":
    main()
