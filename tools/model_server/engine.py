"""One vLLM-like engine: continuous batching with chunked prefill over a paged KV cache, driven by a clock.

Sans-IO: the caller says what time it is. `submit` and `cancel` change the queue, `advance(now)` completes every step
that ends by `now` and returns what it produced. A server calls it on a timer, a simulator with virtual times.

A step gives every running sequence its next token, spends what is left of the token budget on prompts, and admits from
the queue while budget, batch, blocks and adapter slots allow. It lasts

    max(decode_base, prefill tokens / prefill_rate) + decode_per_sequence x decoding + context_read x context tokens

plus the load time of adapters it brings in: reading the weights and computing the prompts overlap, so the longer one
counts. Several equal decode steps in a row are kept as one record (`repeat`), so that a simulation costs
little more than the changes of its batches. Their tokens are reported as they come; blocks change when the record
ends, so that nothing depends on how often somebody looks.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from tools.model_server.adapters import AdapterSlots
from tools.model_server.constants import Profile
from tools.model_server.kv_cache import KvCache, KvEvent, Lease

MAX_REPEAT = 32
"""Context grows by the batch in each repeated step; over 32 steps the error of taking it as constant is below 1 %."""


class DoesNotFit(ValueError):
    """The sequence needs more KV blocks than the engine has."""


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt to prefill and a number of tokens to produce."""

    id: str
    prompt_tokens: int
    output_tokens: int
    """0 for an embedding: done when the prompt is computed."""
    blocks: Sequence[int] = ()
    """Chained hashes of the complete blocks of prompt and answer, so that the next turn finds the answer cached."""
    adapter: str = ""
    tokens: Sequence[int] = ()
    """The ids in `blocks`; empty where nobody wants to know."""
    salt: str = ""


class Progress(msgspec.Struct, frozen=True, gc=False):
    """What one request gained."""

    id: str
    at: float
    tokens: int
    """New tokens since the last report."""
    cached_tokens: int
    """Prompt tokens that were found in the cache when the request was first admitted."""
    first: bool
    """These are the request's first tokens."""
    finished: bool


@dataclass(slots=True)
class Counters:
    """Totals since the start."""

    prompt_tokens: int = 0
    generation_tokens: int = 0
    cache_queries: int = 0
    cache_hits: int = 0
    preemptions: int = 0
    steps: int = 0


@dataclass(slots=True)
class Job:
    """A request on its way. Read-only for all but the engine."""

    request: Request
    lease: Lease = field(default_factory=Lease)
    computed: int = 0
    """Tokens whose keys and values are in the cache."""
    produced: int = 0
    cached_tokens: int = -1
    """-1 until first admitted."""
    gone: bool = False

    @property
    def pending(self) -> int:
        """Known tokens still to compute: 1 when decoding."""
        return self.request.prompt_tokens + self.produced - self.computed


@dataclass(slots=True)
class _Step:
    start: float
    duration: float
    plan: list[tuple[Job, int]]
    """Who computes how many tokens."""
    repeat: int = 1
    reported: int = 0
    """Repeats whose tokens were reported."""

    def done_by(self, now: float) -> int:
        """How many of the repeats end by `now`. The tolerance is for sums of floats."""
        return min(self.repeat, int((now - self.start) / self.duration + 1e-9))


class Engine:
    """The queue, the batch and the cache of one server."""

    def __init__(
        self,
        profile: Profile,
        *,
        on_kv_event: Callable[[KvEvent, Request | None], None] | None = None,
        every_token: bool = True,
    ) -> None:
        """`on_kv_event` hears of the cache's changes, with the request whose blocks are stored.

        `every_token`: report all progress; else first tokens and ends alone, which is all a simulator needs.
        """
        self._every_token = every_token
        self.profile = profile
        """May be replaced while running: the next step has the new speed. Sizes stay."""
        self._on_kv_event = on_kv_event
        self._storing: Request | None = None
        self.kv = KvCache(profile.kv_blocks, profile.block_size, self._tell if on_kv_event else None)
        self.adapters = AdapterSlots(profile.adapter_slots)
        self.counters = Counters()
        self._waiting: OrderedDict[str, Job] = OrderedDict()
        self._running: list[Job] = []
        self._step: _Step | None = None

    @property
    def running(self) -> int:
        """Sequences in the batch."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Sequences in the queue."""
        return len(self._waiting)

    @property
    def batch(self) -> Sequence[Job]:
        """What `running` counts, oldest first. Live: read it and do not keep it."""
        return self._running

    def running_adapters(self) -> list[str]:
        """Adapters of the batch, in order of admission."""
        return _adapters(self._running)

    def waiting_adapters(self) -> list[str]:
        """Adapters of the queue, first to last."""
        return _adapters(self._waiting.values())

    @property
    def next_token(self) -> float:
        """When the step in flight ends; infinity when idle."""
        step = self._step
        return step.start + step.duration * min(step.reported + 1, step.repeat) if step else math.inf

    @property
    def next_change(self) -> float:
        """When a batch ends that no longer only decodes: nothing is admitted or finished before; infinity when idle."""
        return self._step.start + self._step.duration * self._step.repeat if self._step else math.inf

    def submit(self, request: Request, now: float) -> None:
        """Queue `request`; raise `DoesNotFit`. Steps that ended by `now` must have been taken by `advance`."""
        if request.prompt_tokens + request.output_tokens > self.profile.max_model_len:
            raise DoesNotFit(
                f"{request.prompt_tokens} + {request.output_tokens} tokens, {self.profile.max_model_len} fit"
            )
        self._waiting[request.id] = Job(request)
        self._interrupt(now)

    def cancel(self, request_id: str, now: float) -> bool:
        """Drop a request and free its blocks; False if it is not here."""
        sequence = self._waiting.pop(request_id, None)
        if sequence is None:
            sequence = next((s for s in self._running if s.request.id == request_id), None)
            if sequence is None:
                return False
            self._leave(sequence)
        self._interrupt(now)
        return True

    def advance(self, now: float) -> list[Progress]:
        """Complete every step that ends by `now`."""
        progress: list[Progress] = []
        while (step := self._step) is not None and (done := step.done_by(now)) == step.repeat:
            end = step.start + done * step.duration
            self._apply(step, end, progress)
            self._begin(end)
        if self._every_token and step is not None and done > step.reported:
            self._report(step, done, progress)
        return progress

    def _interrupt(self, now: float) -> None:
        """Let the step in flight end, and no repeats of it follow: the queue or the batch has changed."""
        if self._step is None:
            self._begin(now)
        else:
            step = self._step
            step.repeat = min(step.repeat, max(1, math.ceil((now - step.start) / step.duration - 1e-9)))

    def _begin(self, now: float) -> None:
        preempted = self.counters.preemptions
        plan = self._continue_running()
        # After a preemption nobody is admitted: the blocks just freed belong to the batch.
        admitted, loads = self._admit(plan) if preempted == self.counters.preemptions else (0, 0)
        self._step = None
        if not plan:
            return
        duration, prefill = self._duration(plan)
        repeat = 1 if prefill or admitted else self._repeats(plan)
        self._step = _Step(now, duration + loads * self.profile.adapter_load, plan, repeat)

    def _duration(self, plan: list[tuple[Job, int]]) -> tuple[float, int]:
        """Return the seconds that a step takes without loading adapters, and the prompt tokens that it computes."""
        profile = self.profile
        prefill = decoding = context = 0
        for job, chunk in plan:
            context += job.computed
            if job.produced and job.pending == 1:
                decoding += 1
            else:
                prefill += chunk
        duration = (
            max(profile.decode_base, prefill / profile.prefill_rate)
            + profile.decode_per_sequence * decoding
            + profile.context_read * context
        )
        return duration, prefill

    def _continue_running(self) -> list[tuple[Job, int]]:
        """Give the batch its tokens, oldest first; when blocks run out the youngest goes back to the queue."""
        plan: list[tuple[Job, int]] = []
        budget = self.profile.max_batched_tokens
        running, reserve = self._running, self.kv.reserve
        while len(plan) < len(running) and budget:
            sequence = running[len(plan)]
            chunk = min(sequence.pending, budget)
            if reserve(sequence.lease, sequence.computed + chunk):
                if chunk > 1:
                    self._commit(sequence, sequence.computed + chunk)
                plan.append((sequence, chunk))
                budget -= chunk
            else:
                self._preempt(running[-1])
        return plan

    def _admit(self, plan: list[tuple[Job, int]]) -> tuple[int, int]:
        """Move what fits from the queue into the batch; return how many, and how many adapters must be loaded."""
        budget = self.profile.max_batched_tokens - sum(chunk for _, chunk in plan)
        room = min(self.profile.max_sequences - len(self._running), budget)
        if len(plan) < len(self._running) or room <= 0 or not self._waiting:
            return 0, 0
        in_use = {s.request.adapter for s in self._running}
        admitted: list[Job] = []
        loads = 0
        for sequence in self._waiting.values():
            adapter = sequence.request.adapter
            if not self.adapters.admits(adapter, in_use):
                continue  # the ones behind it may use an adapter that is here
            chunk = self._enter(sequence, budget)
            if not chunk:
                break
            loads += self.adapters.use(adapter, in_use)
            in_use.add(adapter)
            admitted.append(sequence)
            plan.append((sequence, chunk))
            budget -= chunk
            if not budget or len(admitted) == room:
                break
        for sequence in admitted:
            del self._waiting[sequence.request.id]
            self._running.append(sequence)
        return len(admitted), loads

    def _enter(self, sequence: Job, budget: int) -> int:
        """Take the cached prefix and blocks for the first chunk; return its tokens, or 0 if the whole does not fit."""
        known = sequence.pending
        # The last token is always computed, for its logits: a prompt that is cached whole still costs one block.
        lease = self.kv.match(sequence.request.blocks, (known - 1) // self.kv.block_size)
        cached = len(lease.hashes) * self.kv.block_size
        chunk = min(known - cached, budget)
        # All known tokens must fit, not only the first chunk: vLLM's `scheduler_reserve_full_isl`, against thrashing.
        if self.kv.missing(lease, known) > self.kv.available or not self.kv.reserve(lease, cached + chunk):
            self.kv.release(lease)
            return 0
        sequence.lease, sequence.computed = lease, cached
        if sequence.cached_tokens < 0:
            sequence.cached_tokens = min(cached, sequence.request.prompt_tokens)
            self.counters.cache_queries += sequence.request.prompt_tokens
            self.counters.cache_hits += sequence.cached_tokens
        self._commit(sequence, cached + chunk)
        return chunk

    def _commit(self, sequence: Job, tokens: int) -> None:
        """Make the full blocks of the first `tokens` findable.

        Those of a prompt are when the step that computes them begins, so that siblings in one step compute what they share
        once: each layer writes all keys and values before it reads any (vLLM's design of prefix caching, version 1).
        """
        self._storing = sequence.request
        self.kv.commit(sequence.lease, sequence.request.blocks, tokens)
        self._storing = None

    def _repeats(self, plan: list[tuple[Job, int]]) -> int:
        """How often this decode step can be repeated before someone finishes or blocks run out."""
        repeat = min(MAX_REPEAT, *[s.request.output_tokens - s.produced for s, _ in plan])
        # Every sequence has the block of its next token: it needs no more than this for the others.
        if len(plan) * -(-(repeat - 1) // self.kv.block_size) <= self.kv.available:
            return repeat
        while repeat > 1 and self._lacks_blocks(plan, repeat):
            repeat //= 2
        return repeat

    def _lacks_blocks(self, plan: list[tuple[Job, int]], repeat: int) -> bool:
        missing = sum(self.kv.missing(s.lease, s.computed + repeat) for s, _ in plan)
        return missing > self.kv.available

    def _report(self, step: _Step, done: int, progress: list[Progress]) -> None:
        """Report the tokens of a decode step that is `done` so many times, of more."""
        tokens, at = done - step.reported, step.start + done * step.duration
        step.reported = done
        for sequence, _ in step.plan:
            if not sequence.gone:
                self.counters.generation_tokens += tokens
                cached = sequence.cached_tokens
                progress.append(
                    Progress(sequence.request.id, at, tokens, cached, first=False, finished=False)
                )

    def _apply(self, step: _Step, end: float, progress: list[Progress]) -> None:
        self.counters.steps += step.repeat
        repeat, size = step.repeat, self.kv.block_size
        for sequence, chunk in step.plan:
            if sequence.gone:
                continue
            samples = chunk == sequence.pending
            sequence.computed = computed = sequence.computed + chunk * repeat
            if repeat > 1:
                self.kv.reserve(sequence.lease, computed)
            if computed // size > sequence.lease.seen:
                self._commit(sequence, computed)
            if samples:
                self._sample(sequence, step, end, progress)

    def _sample(self, sequence: Job, step: _Step, at: float, progress: list[Progress]) -> None:
        request = sequence.request
        first = not sequence.produced
        if first:
            self.counters.prompt_tokens += request.prompt_tokens
        produced = min(step.repeat, request.output_tokens - sequence.produced)  # 0 for an embedding
        sequence.produced += produced
        tokens = produced - step.reported
        self.counters.generation_tokens += tokens
        finished = sequence.produced == request.output_tokens
        if finished:
            self._leave(sequence)
        if finished or first or (tokens and self._every_token):
            progress.append(Progress(request.id, at, tokens, sequence.cached_tokens, first, finished))

    def _tell(self, event: KvEvent) -> None:
        if self._on_kv_event is not None:
            self._on_kv_event(event, self._storing)

    def _preempt(self, sequence: Job) -> None:
        """Back to the head of the queue, to be computed again: vLLM's recompute preemption."""
        self._running.remove(sequence)
        self.kv.release(sequence.lease)
        sequence.computed = 0
        self._waiting[sequence.request.id] = sequence
        self._waiting.move_to_end(sequence.request.id, last=False)
        self.counters.preemptions += 1

    def _leave(self, sequence: Job) -> None:
        sequence.gone = True
        self._running.remove(sequence)
        self.kv.release(sequence.lease)


def _adapters(sequences: Iterable[Job]) -> list[str]:
    return list(dict.fromkeys(s.request.adapter for s in sequences if s.request.adapter))
