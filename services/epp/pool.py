"""A pool of model servers: who is in it, what they report, what is in flight, and who holds which prefix.

Readers take `snapshot`, an immutable value that is replaced and never changed. All methods are synchronous, so no
reader sees half a change.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from services.epp.cost.pace import Fleet
from services.epp.cost.pauses import Pauses
from services.epp.ending import finished
from services.epp.endpoints import Endpoint, Metrics, Server
from services.epp.inflight import PREFILL, Entry, InFlight
from services.epp.kvevents.index import ExactIndex
from services.epp.prefix import DEFAULT_CAPACITY, PrefixIndex
from services.epp.records import Ended, Finished
from services.epp.state.interfaces import Band, Listener, Unheard
from services.openai.digest import BYTES_PER_TOKEN, Digest, prefix_bytes
from services.openai.exact import Exact

Known = Literal["all", "beginning", "nothing"]

SOONEST = 0.2
"""Share of its expected time in which a prompt may be computed: a server can be faster than believed."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The pool at one moment."""

    name: str
    servers: tuple[Server, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """When to stop believing something."""

    misses: int = 3
    """Failed scrapes in a row after which a server is no longer ready: one lost packet must not empty a pool."""
    lease: float = 600.0
    """Seconds after which a request whose end nobody reported stops counting: longer than nearly every answer."""
    staleness: float = 2.0
    """Seconds after which metrics are old; several scrape intervals."""
    default_cache_bytes: int = DEFAULT_CAPACITY


class Pool:
    """The mutable holder of one pool's state."""

    def __init__(
        self, name: str, *, clock: Callable[[], float], limits: PoolLimits | None = None, scraped: bool = True
    ) -> None:
        self.name = name
        self.limits = limits or PoolLimits()
        self.scraped = scraped
        """Whether its servers report metrics; without, every member counts as ready."""
        self._clock = clock
        self.inflight = InFlight(clock=clock, lease=self.limits.lease)
        self.prefixes = PrefixIndex(self.limits.default_cache_bytes)
        self.exact = ExactIndex()
        self.lookups: Counter[Known] = Counter()
        """Counts requests by how much of their prompt was known in tokens."""
        self.fleet = Fleet(clock)
        self.pauses = Pauses(self.fleet.paces, self.fleet.typical, clock)
        self.repaired = 0
        """Counts requests whose end was never told, and that their server had no more."""
        self.version = 0
        """Counts changes of membership."""
        self._servers: dict[str, Server] = {}
        self._addresses: dict[int, str] = {}
        self._misses: dict[str, int] = {}
        self._looked_at: set[str] = set()
        self._resolved = False
        self._snapshot: Snapshot | None = None
        self.listener: Listener = Unheard()
        """Hears of what other replicas want to know."""
        self.waiting: dict[str, tuple[Band, ...]] = {}
        """What waits at the gates of other replicas, by replica."""
        self.turn_taken: Callable[[int, str, int], None] = _no_turn
        """Called with priority, flow and tokens of a request that waited at another replica and went."""
        self.news: Callable[[], None] = _nobody
        """Called when a request ended, a server reported, or members came or went: there may be room."""

    @property
    def snapshot(self) -> Snapshot:
        """The pool as it is now."""
        if self._snapshot is None:
            self._snapshot = Snapshot(self.name, tuple(self._servers.values()))
        return self._snapshot

    @property
    def resolved(self) -> bool:
        """Whether membership is known."""
        return self._resolved

    @property
    def complete(self) -> bool:
        """Whether membership is known and every member has been looked at, with whatever result."""
        return self._resolved and (not self.scraped or self._servers.keys() <= self._looked_at)

    def get(self, address: str) -> Server | None:
        """Return the member at `address`."""
        return self._servers.get(address)

    def address(self, slot: int) -> str:
        """Return the address of the member at `slot`; empty without one."""
        return self._addresses.get(slot, "")

    def reconfigure(self, limits: PoolLimits, *, scraped: bool) -> None:
        """Believe by other limits from now on; the lease of requests is not among what can change."""
        self.limits = limits
        self.scraped = scraped
        for server in [server for server in self._servers.values() if not (scraped or server.ready)]:
            self._put(replace(server, ready=True))

    def set_members(self, endpoints: Iterable[Endpoint]) -> bool:
        """Replace the membership; return whether it changed. Members that stay keep all they have."""
        wanted = {endpoint.address: endpoint for endpoint in endpoints}
        self._resolved = True
        gone = [address for address in self._servers if address not in wanted]
        new = [endpoint for address, endpoint in wanted.items() if address not in self._servers]
        for address in gone:
            self._leave(address)
        taken = {server.slot for server in self._servers.values()}
        free = (slot for slot in itertools.count() if slot not in taken)
        for endpoint, slot in zip(new, free, strict=False):
            self._join(endpoint, slot)
        for server in [
            server for address, server in self._servers.items() if server.endpoint != wanted[address]
        ]:
            self._put(replace(server, endpoint=wanted[server.address]))
        if gone or new:
            self.version += 1
            self._snapshot = None
        self.news()
        return bool(gone or new)

    def observe(self, address: str, metrics: Metrics) -> None:
        """Take in what a server reported; `metrics.scraped_at` is when the question was sent."""
        server = self._servers.get(address)
        if server is None:
            return
        if metrics.restarted_since(server.metrics):
            self.prefixes.clear(server.slot)
            self.pauses.forget(server.slot)
            self.fleet.admit(server.slot)
        if metrics.cache_tokens != server.metrics.cache_tokens:
            self.prefixes.resize(server.slot, metrics.cache_tokens * BYTES_PER_TOKEN)
        self.inflight.scraped(server.slot, metrics.scraped_at)
        self.repaired += len(self.inflight.reconcile(server.slot, metrics.running + metrics.waiting))
        self.fleet.looked_at(server.slot, metrics.max_adapters, metrics.running + metrics.waiting)
        self._misses[address] = 0
        self._looked_at.add(address)
        self._put(replace(server, metrics=metrics, ready=True))
        self.news()

    def miss(self, address: str) -> None:
        """Note a failed scrape; after too many in a row the server is not ready."""
        server = self._servers.get(address)
        if server is None:
            return
        self._looked_at.add(address)
        self._misses[address] = self._misses.get(address, 0) + 1
        if server.ready and self._misses[address] >= self.limits.misses:
            self._put(replace(server, ready=False))

    def matches(self, digest: Digest, exact: Exact | None) -> Mapping[int, int]:
        """Return by slot how many of a digest's blocks are cached there: by the servers' word where it reaches."""
        sent = self.prefixes.match(digest.blocks)
        if exact is None:
            self.lookups["nothing"] += 1
            return sent
        self.lookups["beginning" if exact.prompt_bytes < prefix_bytes(len(digest.blocks)) else "all"] += 1
        return self.exact.correct(sent, exact, self._clock(), digest.model)

    def reserve(self, entry: Entry, exact: Exact | None = None) -> None:
        """Count a pick and remember its prompt, at once."""
        if exact is not None:
            self.exact.expect(entry.slot, exact, self._clock(), entry.model)
        self.inflight.add(self._sent(entry))
        self.prefixes.record(entry.slot, entry.blocks)
        self.listener.picked(entry)

    def served(self, decision: str, address: str) -> None:
        """Move a request's load and prefix to the server that really served it."""
        server, entry = self._servers.get(address), self.inflight.get(decision)
        if server is None or entry is None or entry.slot == server.slot:
            return
        whole = entry.context_tokens
        there = prefix_bytes(self.prefixes.match(entry.blocks).get(server.slot, 0)) // BYTES_PER_TOKEN
        tokens = max(0, whole - there)
        moved = self.inflight.move(decision, server.slot, prompt_tokens=tokens)
        if moved is not None:
            self.fleet.unsent(entry)
            self.inflight.amend(self._sent(replace(entry, slot=server.slot, prompt_tokens=tokens)))
        self.listener.moved(entry, server.slot, tokens)
        self.prefixes.drop(entry.slot, entry.blocks, entry.matched)
        self.prefixes.record(server.slot, entry.blocks)

    def _sent(self, entry: Entry) -> Entry:
        """Count a prompt as sent, and return what is known of its place in the server's queue and batch."""
        load = self.inflight.loads[entry.slot]
        entry = replace(entry, batch=load.requests, reads=load.context_tokens)
        place = self.fleet.sent(entry)
        return replace(entry, ahead=place.ahead, mark=place.sent, stalled=place.stalled)

    def release(self, decision: str, served: str | None = None) -> bool:
        """End a request; return whether it was still in flight."""
        if served is not None:
            self.served(decision, served)
        self.inflight.release(decision + PREFILL)
        entry = self.inflight.release(decision)
        if entry is not None:
            self.rest(entry.slot)
        self.news()
        return entry is not None

    def rest(self, slot: int) -> None:
        """Note that something ended at `slot`, perhaps the last of all."""
        if not self.inflight.loads[slot].requests:
            self.fleet.idle(slot)

    def continued(self, blocks: Sequence[int], tokens: int) -> bool:
        """Count the turn before this one no more: a conversation that goes on has been answered, and pauses no more.

        Return whether there was one. The proxy reports an end some milliseconds late, and the next turn must not find its
        own server busy with the last one. A request whose prompt cannot even have been computed by now is a sibling.
        """
        now, ends = self._clock(), self.prefixes.ends(blocks)
        self.pauses.expire()
        goes_on = self.pauses.end(ends)
        for entry in self.inflight.before(ends, tokens):
            least = SOONEST * entry.ahead * self.fleet.paces[entry.slot].prefill
            if now - entry.picked_at >= least:
                self.inflight.answered(entry)
                self.rest(entry.slot)
                goes_on = True
        return goes_on

    def finish(self, end: Ended) -> Finished | None:
        """Learn how a request went; return all that is known of it, or None when it is not in flight here.

        To be told before its release.
        """
        if end.served is not None:
            self.served(end.decision, end.served)
        entry = self.inflight.get(end.decision)
        if entry is None:
            return None
        done = finished(entry, end, self.address(entry.slot), self._clock())
        self.finished(done)
        return done

    def finished(self, done: Finished) -> None:
        """Learn from what is known of a request that is still in flight here."""
        entry = self.inflight.get(done.decision)
        if entry is not None:
            taught = self.fleet.finished(entry, done, self.inflight.loads[entry.slot])
            self.listener.learnt(entry, taught)
            if not taught.broken:
                self.prefixes.record(entry.slot, entry.blocks)
                if entry.blocks and not self.inflight.goes_on(entry.id):
                    self.pauses.begin(entry.slot, entry.blocks[-1], entry.context_tokens + done.output_tokens)

    def _join(self, endpoint: Endpoint, slot: int) -> None:
        self.inflight.admit(slot)
        self.fleet.admit(slot)
        self._addresses[slot] = endpoint.address
        self._servers[endpoint.address] = Server(endpoint, slot, ready=not self.scraped)

    def _leave(self, address: str) -> None:
        slot = self._servers.pop(address).slot
        self._misses.pop(address, None)
        self._looked_at.discard(address)
        self.inflight.forget(slot)
        self.prefixes.forget(slot)
        self.pauses.forget(slot)
        del self._addresses[slot]
        self.exact.forget(slot)

    def _put(self, server: Server) -> None:
        self._servers[server.address] = server
        self._snapshot = None


def _nobody() -> None:
    """Wait for no news."""


def _no_turn(priority: int, flow: str, tokens: int) -> None:
    """Give no flow a turn."""
