"""What the services' own code costs, without Envoy and gRPC: CPU time in µs. Run by `make bench`."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import click
import msgspec

from bench.chain.machine import machine
from bench.cost import digest, protocol, routing, scheduling, services, texts
from bench.cost.timing import Timing, measure

RESULT = Path(__file__).parent / "results/micro.json"
PARTS = (digest.cases, protocol.cases, scheduling.cases, texts.cases, services.cases, routing.cases)


def table(timings: list[Timing]) -> str:
    """Return the timings as Markdown."""
    rows = [f"| {one.part} | {one.what} | {one.best_us:.1f} | {one.median_us:.1f} |" for one in timings]
    return "\n".join(["| part | what | best, µs | median, µs |", "| --- | --- | ---: | ---: |", *rows])


@click.command()
@click.option("--output", type=click.Path(path_type=Path), default=RESULT, help="Where the JSON goes.")
def main(output: Path) -> None:
    """Time peek, digest, wire codec, session, decision, scan and framing."""
    cases = list(itertools.chain.from_iterable(part() for part in PARTS))
    timings = measure(cases, lambda progress: print(f"bench: {progress}", file=sys.stderr))
    output.parent.mkdir(parents=True, exist_ok=True)
    figures = {"machine": machine(), "timings": timings}
    output.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")
    print(table(timings))
    print("\n" + "; ".join(f"{key} {value}" for key, value in machine().items()) + ".")


if __name__ == "__main__":
    main()
