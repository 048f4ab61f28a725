"""What the picker reports about itself, as plain values. An adapter counts them; the core knows no metrics library."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Protocol

from services.extproc.errors import ExtProcError, Overloaded, Unavailable
from services.openai.usage import Usage


class PickOutcome(enum.StrEnum):
    """How a pick ended. A closed set, fit for a metric label."""

    PICKED = "success"
    NO_ENDPOINT = "no_endpoint"
    SHED = "shed"
    FAILED = "failure"

    @classmethod
    def of(cls, error: ExtProcError) -> PickOutcome:
        """Return the outcome that `error` stands for."""
        if isinstance(error, Overloaded):
            return cls.SHED
        return cls.NO_ENDPOINT if isinstance(error, Unavailable) else cls.FAILED


class Release(enum.StrEnum):
    """Who took a request off its server's load."""

    ACCESS_LOG = "access_log"
    RESPONSE = "response"
    """The response phase of the request's own stream, or that stream's failure."""
    PASSED_ON = "passed_on"
    """The access log named a decision of another replica, which was told."""
    PROXY_GONE = "proxy_gone"
    """The proxy that it was picked for closed its last stream, here or at another replica."""
    EVICTED = "evicted"
    """It was taken back for a request of a higher priority."""
    UNKNOWN = "unknown"
    """The access log named a decision that is not in flight here: released before, expired, or a replica's that is gone."""


class EndOutcome(enum.StrEnum):
    """How a request ended, as the proxy saw it."""

    COMPLETED = "completed"
    CLIENT_LEFT = "client_left"
    SERVER_FAILED = "server_failed"
    """Reset, refused or cut short by the server."""
    TIMED_OUT = "timed_out"
    NOT_SENT = "not_sent"
    """No server got it."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of one request, as it was observed. Times are in seconds from the request's start."""

    pool: str
    decision: str
    outcome: EndOutcome
    served: str | None = None
    """`ip:port` of the server that got it in the end."""
    status: int = 0
    attempts: int = 0
    seconds: float = 0.0
    sent_after: float | None = None
    """When its first byte went to the server."""
    answered_after: float | None = None
    """When the answer's head came."""
    first_token_after: float | None = None
    """When the first piece of a streamed body came; None where nobody saw the body."""
    response_bytes: int = 0
    usage: Usage | None = None
    """What the server counted; None where nobody saw it."""


@dataclass(frozen=True, slots=True)
class Finished:
    """One request from its pick to its end, with all that is known of it: what metrics and cost models learn from.

    Tokens are the server's own counts where somebody saw its answer (`counted`), else estimates from bytes.
    """

    pool: str
    decision: str
    endpoint: str
    """`ip:port` of the server that served it; empty when none got it."""
    outcome: EndOutcome
    model: str = ""
    status: int = 0
    priority: int = 0
    fairness: str = ""
    stream: bool = False
    picked_at: float = 0.0
    """A reading of the monotonic clock, in seconds."""
    seconds: float = 0.0
    """From the pick to the end of the answer."""
    first_byte: float | None = None
    """Seconds from the request's first byte to the server until the head of the answer. Servers that send the head
    of a stream before its first token (vLLM does) make this less than the time to first token."""
    first_token: float | None = None
    """Seconds from the pick to the first piece of a streamed body; None where nobody saw the body."""
    prompt_tokens: int = 0
    uncached_tokens: int = 0
    """Of the prompt, what the picker believed that the server has to compute."""
    cached_tokens: int | None = None
    """Of the prompt, what the server says it had; None when it did not say."""
    output_tokens: int = 0
    counted: bool = False
    prompt_bytes: int = 0
    response_bytes: int = 0
    total_seconds: float = 0.0
    """As its client saw it: from its start, waiting for a place included."""
    first_token_slo: float = math.inf
    token_slo: float = math.inf
    """Seconds in which the client wanted its first token and each further one."""


class WaitOutcome(enum.StrEnum):
    """What became of a request at the gate of its pool, in the reference's words (`outcome` of its metrics)."""

    DISPATCHED = "Dispatched"
    FULL = "RejectedCapacity"
    EXPIRED = "EvictedTTL"
    NO_ENDPOINTS = "EvictedNoEndpoints"
    CLIENT_LEFT = "EvictedContextCancelled"
    WAITS = "NotYetFinalized"
    """Nothing yet: it has a place in the queue."""
    EVICTED = "EvictedOther"
    """A request of a higher priority took its place in the queue."""


@dataclass(frozen=True, slots=True)
class Waited:
    """The end of a request's time at the gate."""

    pool: str
    model: str
    priority: int
    fairness: str
    outcome: WaitOutcome
    seconds: float


@dataclass(frozen=True, slots=True)
class Enqueued:
    """A request has come to the gate, and was let in, refused or told to wait."""

    priority: int
    fairness: str
    outcome: WaitOutcome
    seconds: float
    """What that took."""


@dataclass(frozen=True, slots=True)
class Evicted:
    """A request was taken back from its server for one of a higher priority."""

    pool: str
    model: str
    priority: int
    seconds: float
    """Since its pick."""


class ScrapeError(enum.StrEnum):
    """Why a scrape gave nothing."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"
    STATUS = "status"
    FORMAT = "format"


@dataclass(frozen=True, slots=True)
class Pick:
    """One decision or refusal."""

    pool: str
    model: str
    priority: int
    outcome: PickOutcome
    seconds: float
    endpoint: str = ""
    prompt_bytes: int = 0
    matched_bytes: int = 0
    stages: str = ""
    """Of disaggregated serving (`Decision.stages`); empty without it."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A rule chose the model that a server is asked for."""

    rule: str
    asked: str
    target: str


class Observer(Protocol):
    """Whoever wants to know. Called on the request path: quick, and never failing."""

    def picked(self, pick: Pick) -> None:
        """Note a decision."""

    def rewrote(self, rewritten: Rewritten) -> None:
        """Note that a rule replaced a request's model, perhaps by its own name."""

    def unread(self, pool: str) -> None:
        """Note a request of a pool with rewrites whose body nobody read: it goes to the model it asks for."""

    def waited(self, waited: Waited) -> None:
        """Note what became of a request under flow control, which may have waited no time at all."""

    def evicted(self, evicted: Evicted) -> None:
        """Note a request that was taken back."""

    def enqueued(self, enqueued: Enqueued) -> None:
        """Note how long it took to receive a request at the gate."""

    def dispatched(self, seconds: float) -> None:
        """Note how long it took to let in whoever there was room for."""

    def finished(self, done: Finished) -> None:
        """Note all that is known of a request that was in flight here and has ended."""

    def released(self, pool: str, by: Release) -> None:
        """Note that a request stopped counting as load."""

    def ended(self, end: Ended) -> None:
        """Note what the access log says of a request that was in flight here."""

    def scrape_failed(self, pool: str, error: ScrapeError) -> None:
        """Note a scrape that gave nothing."""

    def scraped(self, pool: str, seconds: float) -> None:
        """Note a scrape that succeeded."""

    def resolve_failed(self, pool: str) -> None:
        """Note a name that did not resolve."""

    def membership(self, *, accepted: bool) -> None:
        """Note the proxy's answer to a membership that was pushed to it."""


class Silent:
    """Tells nobody."""

    def picked(self, pick: Pick) -> None:
        """Tell nobody."""

    def rewrote(self, rewritten: Rewritten) -> None:
        """Tell nobody."""

    def unread(self, pool: str) -> None:
        """Tell nobody."""

    def waited(self, waited: Waited) -> None:
        """Tell nobody."""

    def evicted(self, evicted: Evicted) -> None:
        """Tell nobody."""

    def enqueued(self, enqueued: Enqueued) -> None:
        """Tell nobody."""

    def dispatched(self, seconds: float) -> None:
        """Tell nobody."""

    def finished(self, done: Finished) -> None:
        """Tell nobody."""

    def released(self, pool: str, by: Release) -> None:
        """Tell nobody."""

    def ended(self, end: Ended) -> None:
        """Tell nobody."""

    def scrape_failed(self, pool: str, error: ScrapeError) -> None:
        """Tell nobody."""

    def scraped(self, pool: str, seconds: float) -> None:
        """Tell nobody."""

    def resolve_failed(self, pool: str) -> None:
        """Tell nobody."""

    def membership(self, *, accepted: bool) -> None:
        """Tell nobody."""
