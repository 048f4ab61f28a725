"""Record the messages that a real Envoy sends: `python -m tests.frames.record` writes the `.json` files beside it."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import TypedDict

import envoy_data_plane.envoy.service.ext_proc.v3 as api

from tests.e2e.harness.lab import Lab, lab
from tests.e2e.harness.wait import until
from tests.frames.scenarios import SCENARIOS, plan

FOLDER = Path(__file__).parent


class Recording(TypedDict):
    """What a file holds."""

    what: str
    messages: list[dict[str, str]]


KINDS = ("headers", "body", "trailers")


def kind(raw: bytes) -> str:
    """Return which message `raw` is, such as `request_headers`."""
    message = api.ProcessingRequest.parse(raw)
    names = [f"{side}_{part}" for side in ("request", "response") for part in KINDS]
    return next(name for name in names if getattr(message, name) is not None)


async def record(running: Lab, name: str) -> Recording:
    """Play the scenario `name` and return what its file holds."""
    scenario = SCENARIOS[name]
    async with asyncio.timeout(20):
        await scenario.send(running.envoy.ports[name], scenario.ask)
    *_, stream = running.scripted.of(f"{name}.{len(scenario.scripts)}")

    async def over() -> bool:
        return stream.over

    await until(over, f"the stream of {name} is over")
    messages = [{"kind": kind(raw), "hex": raw.hex()} for raw in stream.messages]
    return {"what": scenario.what, "messages": messages}


async def _main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with lab(Path(folder), plan) as running:
            for name in SCENARIOS:
                text = json.dumps(await record(running, name), indent=1)
                (FOLDER / f"{name}.json").write_text(f"{text}\n")


if __name__ == "__main__":
    asyncio.run(_main())
