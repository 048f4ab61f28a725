"""`python -m tools.model_server`: one mock vLLM."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import signal

import click
import uvloop

from tools.model_server.constants import PROFILES, Profile
from tools.model_server.core import Settings
from tools.model_server.server import serve

log = logging.getLogger("model_server")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--host", default="127.0.0.1")
@click.option("--port", default=8101, help="0 is any free port; the log says which.")
@click.option("--admin-port", type=int, help="Serves /admin here too: the way in while the port refuses.")
@click.option("--name", default="mock-0", help="What system_fingerprint and x-served-by say.")
@click.option("--model", default="llama-3.1-8b-instruct", help="The model name that clients use.")
@click.option("--root", default="", help="The name of the weights, if it is another.")
@click.option("--adapter", "adapters", multiple=True, metavar="NAME", help="A LoRA adapter; repeatable.")
@click.option("--profile", type=click.Choice(sorted(PROFILES)), default="demo", help="Engine constants.")
@click.option("--time-scale", type=float, default=1.0, help="Makes the profile so many times as fast.")
@click.option("--prefill-rate", type=float, help="Prompt tokens per second, in place of the profile's.")
@click.option("--token-ms", type=float, help="Decode step of a batch of one, in place of the profile's.")
@click.option("--kv-blocks", type=int, help="Blocks of 16 tokens, in place of the profile's.")
@click.option("--max-adapters", type=int, help="Adapters in one batch, in place of the profile's.")
@click.option("--kv-events", default="", metavar="tcp://HOST:PORT", help="Publish what the KV cache holds.")
@click.option(
    "--kv-replay", default="", metavar="tcp://HOST:PORT", help="Answer requests for replays of that."
)
@click.option("--kv-topic", default="", help="The topic of what is published.")
@click.option(
    "--tokenizer", default="", metavar="FILE", help="A tokenizer.json; without, 4 bytes are a token."
)
@click.option("--seed", default=0, help="Servers with the same seed give the same answers.")
@click.option("--start-delay", default=0.0, help="Seconds before the port opens.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
def main(
    host: str,
    port: int,
    admin_port: int | None,
    name: str,
    model: str,
    root: str,
    adapters: tuple[str, ...],
    profile: str,
    time_scale: float,
    prefill_rate: float | None,
    token_ms: float | None,
    kv_blocks: int | None,
    max_adapters: int | None,
    kv_events: str,
    kv_replay: str,
    kv_topic: str,
    tokenizer: str,
    seed: int,
    start_delay: float,
    log_level: str,
) -> None:
    """Serve a mock vLLM: one engine model behind the OpenAI API."""
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")
    constants = _override(
        PROFILES[profile].scaled(time_scale), prefill_rate, token_ms, kv_blocks, max_adapters
    )
    settings = Settings(
        name=name,
        model=model,
        root=root,
        adapters=adapters,
        profile=constants,
        seed=seed,
        start_delay=start_delay,
        kv_events=kv_events,
        kv_replay=kv_replay,
        kv_topic=kv_topic,
        tokenizer=tokenizer,
    )
    try:
        uvloop.run(_run(settings, host, port, admin_port))
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}"
        ) from error


def _override(
    profile: Profile,
    prefill_rate: float | None,
    token_ms: float | None,
    kv_blocks: int | None,
    max_adapters: int | None,
) -> Profile:
    changes: dict[str, float | int | None] = {
        "prefill_rate": prefill_rate,
        "decode_base": None if token_ms is None else max(0.0, token_ms / 1000 - profile.decode_per_sequence),
        "kv_blocks": kv_blocks,
        "adapter_slots": max_adapters,
    }
    return dataclasses.replace(profile, **{k: v for k, v in changes.items() if v is not None})  # type: ignore[arg-type]  # a mapping of mixed fields


async def _run(settings: Settings, host: str, port: int, admin_port: int | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serve(settings, host=host, port=port, admin_port=admin_port) as server:
        log.info("%s serves %s on %s", settings.name, settings.model, server.url)
        await stop.wait()


if __name__ == "__main__":
    main()
