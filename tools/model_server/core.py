"""What the HTTP handlers share: the engine on its event loop, and what the server knows of itself."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.model_server.answers import Speaker
from tools.model_server.constants import DEMO, Profile
from tools.model_server.engine import Engine, Progress
from tools.model_server.faults import ServerFaults
from tools.model_server.journal import Journal
from tools.model_server.loop import EngineLoop, Ticket
from tools.model_server.metrics import Metrics
from tools.model_server.models import Models
from tools.model_server.tokens import FileTokenizer, FourBytes, Tokenizer

if TYPE_CHECKING:
    from tools.model_server.kv_events import Publisher


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One server."""

    name: str = "mock-0"
    """What `system_fingerprint` and `x-served-by` say."""
    model: str = "llama-3.1-8b-instruct"
    """The name that clients use."""
    root: str = ""
    """The name of the weights; the model's own name when empty."""
    adapters: tuple[str, ...] = ()
    profile: Profile = DEMO
    seed: int = 0
    """Servers with the same seed give the same answers."""
    start_delay: float = 0.0
    """Seconds before the server listens, as if it loaded weights."""
    kv_events: str = ""
    """Where to publish what the cache holds, as `tcp://HOST:PORT`; empty: nowhere."""
    kv_replay: str = ""
    """Where to answer requests for replays of that."""
    kv_topic: str = ""
    tokenizer: str = ""
    """Path of a `tokenizer.json`; empty: four bytes are a token."""


class Core:
    """One model server without its sockets."""

    def __init__(self, settings: Settings) -> None:
        self.name = settings.name
        self.profile = settings.profile
        self.speaker = Speaker(settings.seed)
        self.journal = Journal()
        self.metrics = Metrics(settings.model)
        self.tokenizer: Tokenizer = FileTokenizer(settings.tokenizer) if settings.tokenizer else FourBytes()
        self.events: Publisher | None = None
        if settings.kv_events:
            # pyzmq is an extra: only who publishes has it.
            from tools.model_server.kv_events import Publisher  # noqa: PLC0415

            self.events = Publisher(settings.profile.block_size, topic=settings.kv_topic)
        note = self.events.note if self.events else None
        self.loop = EngineLoop(Engine(settings.profile, on_kv_event=note), observe=self._observe)
        self.faults = ServerFaults(start_delay=settings.start_delay)
        self.models = Models(
            settings.model,
            root=settings.root or settings.model,
            adapters=settings.adapters,
            max_model_len=settings.profile.max_model_len,
            created=int(time.time()),
        )

    def misbehave(self, faults: ServerFaults) -> None:
        """Replace the server's faults."""
        self.faults = faults
        fast = self.profile.scaled(1 / faults.slow)
        self.loop.engine.profile = dataclasses.replace(fast, adapter_load=self.profile.adapter_load)

    def forget_cache(self) -> None:
        """Empty the prefix cache and the adapter slots, as a restart does."""
        engine = self.loop.engine
        engine.kv.clear()
        for adapter in engine.adapters.loaded:
            engine.adapters.forget(adapter)
        if self.events is not None:
            self.events.restart()

    def _observe(self, ticket: Ticket, progress: Progress) -> None:
        if progress.first:
            self.metrics.ttft.observe(progress.at - ticket.started)
        if progress.finished:
            self.metrics.e2e.observe(progress.at - ticket.started)
