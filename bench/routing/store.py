"""Where results are kept, and how they are read again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.routing.cells import Result

RESULT = Path(__file__).parents[1] / "results/routing.json"


class Kept(msgspec.Struct, frozen=True):
    """A whole comparison."""

    traces: str
    """Where the workloads named after Mooncake's traces came from."""
    results: Sequence[Result]


def save(kept: Kept, path: Path) -> None:
    """Write `kept`, one line for each result, so that a diff of two versions can be read.

    A line has the fields of `Cell` and `Row` in their order: names would be two thirds of the file.
    """
    lines = ",\n".join(msgspec.json.encode(result).decode() for result in kept.results)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{{"traces": {msgspec.json.encode(kept.traces).decode()}, "results": [\n{lines}\n]}}\n')


def load(path: Path) -> Kept:
    """Read what `save` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=Kept)
