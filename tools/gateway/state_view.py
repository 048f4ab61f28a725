"""The shared state as tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tools.gateway.shared_state import Endpoint, Pool, Replica


def tables(pools: Sequence[Pool]) -> RenderableType:
    """Return everything, pool by pool."""
    if not pools:
        return Text("no replica of the endpoint picker shares anything here")
    return Group(*(part for pool in pools for part in _pool(pool)))


def _pool(pool: Pool) -> list[RenderableType]:
    age = "" if pool.stream_age_seconds is None else f", the newest {pool.stream_age_seconds:.1f} s old"
    lines = f"{pool.pool}: {pool.stream_entries} entries in the stream, {pool.stream_bytes / 1e6:.1f} MB{age}"
    parts: list[RenderableType] = [Text(lines, style="bold"), _replicas(pool.replicas)]
    if pool.endpoints:
        parts.append(_endpoints(pool.endpoints))
    parts += [Text(f"not read: {line}", style="yellow") for line in pool.unreadable]
    return [*parts, Text("")]


def _replicas(replicas: Sequence[Replica]) -> RenderableType:
    if not replicas:
        return Text("no replica holds a lease: none runs, or none can reach Redis", style="yellow")
    table = _table(
        "replica", "owner", "up s", "lease s", "in flight", "picks", "lag ms", "degraded s", "dropped"
    )
    for one in replicas:
        table.add_row(
            one.name,
            one.owner,
            f"{one.up_seconds:.0f}",
            f"{one.lease_seconds:.1f}",
            str(one.requests),
            str(one.picks),
            f"{1000 * one.lag_seconds:.1f}",
            f"{one.degraded_seconds:.1f}",
            str(one.dropped),
        )
    return table


def _endpoints(endpoints: Sequence[Endpoint]) -> Table:
    table = _table("server", "in flight", "prompt tokens", "output tokens", "picks", "hit rate", "scraped by")
    for one in endpoints:
        table.add_row(
            one.endpoint,
            str(one.requests),
            str(one.prompt_tokens),
            str(one.output_tokens),
            str(one.picks),
            f"{one.hit_rate:.1%}",
            ", ".join(one.scraped_by),
        )
    return table


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    words = {"replica", "owner", "server", "scraped by"}
    for name in names:
        table.add_column(name, justify="left" if name in words else "right", no_wrap=name in words)
    return table
