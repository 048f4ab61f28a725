"""The comparison's own checks as Markdown: the engine against published figures, and policies on the real gateway."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.routing.calibrate import CALIBRATION, ENDLESS_REUSE, Calibration, Modelled
from bench.routing.markdown import grid, number

LIVE = Path(__file__).parents[1] / "results/routing_live.json"


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """One policy on the running gateway. Times in milliseconds."""

    policy: str
    requests: int
    ttft_p50: float
    ttft_p90: float
    ttft_p99: float
    e2e_mean: float
    hits: float
    imbalance: float
    failed: int


def checks() -> str:
    """Return what was measured of the instrument itself and in real time."""
    parts = ["### The engine against published figures", _calibration()]
    if LIVE.is_file():
        parts += ["### In real time", _live(msgspec.json.decode(LIVE.read_bytes(), type=list[Live]))]
    return "\n\n".join(parts)


def _calibration() -> str:
    found = msgspec.json.decode(CALIBRATION.read_bytes(), type=Calibration)
    head = ["", "clients", "TTFT, ms", "between tokens, ms", "tokens/s"]
    rows = [*_lines("70B, 5,000 in, 500 out", found.large), *_lines("8B, 200 in, 1,000 out", found.small)]
    times = grid(head, rows)
    head = ["workers", "policy", "tokens reused", "published", "TTFT mean / p50, ms"]
    reuse = grid(
        head,
        [
            [
                str(one.workers),
                one.policy,
                f"{one.reuse:.1%}",
                f"{one.published:.1%}" if one.published else "",
                f"{one.ttft_mean:.0f} / {one.ttft_p50:.0f}",
            ]
            for one in found.replays
        ],
    )
    return (
        "Published / modelled: NVIDIA's NIM 1.8.0 with so many clients, each with one request after the other.\n\n"
        f"{times}\n\nMooncake's conversation trace at its own rate, workers of 16,384 blocks of 64 tokens, against the "
        "offline replay of Dynamo 1.6.1 (its KV router reuses 19.9 % on 8 and 28.6 % on 16 workers; an endless cache "
        f"{ENDLESS_REUSE:.1%}, here {found.endless:.1%}). Engine speeds differ, so only reuse can be compared.\n\n{reuse}"
    )


def _lines(what: str, models: Sequence[Modelled]) -> list[list[str]]:
    def both(published: float, modelled: float) -> str:
        return f"{number(published)} / {number(modelled)}"

    return [
        [
            what,
            str(model.published.concurrency),
            both(model.published.ttft, model.ttft),
            both(model.published.itl, model.itl),
            both(model.published.throughput, model.throughput),
        ]
        for model in models
    ]


def _live(rows: Sequence[Live]) -> str:
    head = ["", "requests", "TTFT p50 / p90 / p99, ms", "mean, ms", "hits", "imbalance", "failed"]
    return grid(
        head,
        [
            [
                row.policy,
                str(row.requests),
                f"{number(row.ttft_p50)} / {number(row.ttft_p90)} / {number(row.ttft_p99)}",
                number(row.e2e_mean),
                f"{row.hits:.1%}",
                number(row.imbalance),
                str(row.failed),
            ]
            for row in rows
        ],
    )
