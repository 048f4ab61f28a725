"""`inference-gateway state`: what replicas of the endpoint picker share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tools.gateway.shared_state import Pool

SECONDS = 5.0
"""For one look: as long as anybody would wait for a table."""


@click.command()
@click.argument("url", envvar="INFERENCE_GATEWAY_REDIS")
@click.option(
    "--prefix", default="igw", show_default=True, help="Of the keys, as `redis.prefix` in epp.yaml."
)
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON array on a line; with --watch one line for each look."
)
@click.option("--watch", is_flag=True, help="Look again and again, until Ctrl-C.")
@click.option(
    "--every", default=1.0, show_default=True, type=click.FloatRange(0.1), help="Seconds, with --watch."
)
def state(url: str, prefix: str, as_json: bool, watch: bool, every: float) -> None:
    """Print what the replicas of the endpoint picker share in the Redis at URL.

    Of each pool: the replicas with their leases and lag, the stream, and of each server the load that all of them
    have in flight there, and how much of the prompts it was believed to hold. URL may also come from the environment
    variable INFERENCE_GATEWAY_REDIS, so that a password is in nobody's list of processes.
    """
    from redis.exceptions import RedisError  # noqa: PLC0415 - redis and rich take a moment to load

    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_show(url, prefix, as_json=as_json, every=every if watch else None))
    except (RedisError, OSError, TimeoutError, ValueError) as error:
        raise click.ClickException(
            f"cannot read the state: {str(error) or 'no answer within 5 s'}"
        ) from error


async def _show(url: str, prefix: str, *, as_json: bool, every: float | None) -> None:
    from services.epp.config import Redis as Settings  # noqa: PLC0415 - as above
    from services.epp.state.client import connect  # noqa: PLC0415
    from tools.gateway.shared_state import gather  # noqa: PLC0415

    client = connect(Settings(url=url, prefix=prefix, timeout_seconds=SECONDS))

    async def look() -> list[Pool]:
        async with asyncio.timeout(SECONDS):
            return await gather(client, prefix)

    try:
        await (_lines(look, every) if as_json else _tables(look, every))
    finally:
        await client.aclose()


async def _lines(look: Callable[[], Awaitable[object]], every: float | None) -> None:
    import msgspec  # noqa: PLC0415 - as above

    while True:
        click.echo(msgspec.json.encode(await look()))
        if every is None:
            return
        await asyncio.sleep(every)


async def _tables(look: Callable[[], Awaitable[list[Pool]]], every: float | None) -> None:
    from redis.exceptions import RedisError  # noqa: PLC0415 - as above
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from tools.gateway.state_view import tables  # noqa: PLC0415

    if every is None:
        Console(highlight=False).print(tables(await look()))
        return
    with Live(auto_refresh=False) as live:
        while True:
            # An outage is among what one watches for.
            try:
                live.update(tables(await look()), refresh=True)
            except (RedisError, OSError, TimeoutError) as error:
                live.update(
                    Text(f"cannot read the state: {str(error) or 'no answer'}", style="red"), refresh=True
                )
            await asyncio.sleep(every)
