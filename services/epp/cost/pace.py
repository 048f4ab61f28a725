"""How fast each server of a pool is, learnt from the requests that it finished, and how long its prompts will keep it.

Two lines are learnt for the pool: seconds to the first byte against prompt tokens to compute, and seconds for each
token against the size of the batch. Each server has two factors on them, and decays back to 1 without news. The
priors are the engine constants that SMG publishes for its mock worker: 8,000 prompt tokens per second, a step of
6 ms + 0.35 ms for each sequence; all that is used of them in the long run is their proportion.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from services.epp.cost.line import BOLD, Line
from services.epp.inflight import DEFAULT_OUTPUT_TOKENS, Entry
from services.epp.others import Foreign
from services.epp.records import EndOutcome, Finished

FIRST_BYTE = (0.01, 1 / 8_000)
"""Seconds until the first byte of an empty prompt (network and one step), and for each prompt token."""
STEP = (0.006, 0.00035)
"""Seconds for a step of an empty batch, and for each sequence in it."""
CONTEXT = 9_000
"""Tokens of context that slow a step down like one sequence more: 0.35 ms against the 39 ns that an H100 needs to read
the 128 KiB which a token of an 8B model takes in the KV cache."""
GAIN = 0.03
"""Share of the way to a new measurement that a server's factor goes."""
HALF_LIFE = 30.0
"""Seconds in which a factor goes half its way back to 1: a server that was avoided is tried again."""
BOUND = math.log(16)
"""A server counts as at most so many times slower or faster than the pool."""
LOG_BOLD = math.log(BOLD)
FEW = 32
"""Tokens of an answer below which its pace is mostly noise."""
FAILURE_GAIN = 0.1
MOST_FAILING = 0.95
TYPICAL_GAIN = 0.02
"""What is typical is what the last fifty requests or so were."""
SERVER_ERROR, CLIENT_ERROR, TOO_MANY_REQUESTS = 500, 400, 429


@dataclass(slots=True)
class Pace:
    """One server. Times are in seconds. Readers treat it as read-only."""

    first: float = FIRST_BYTE[0]
    """Until the first byte, whatever the prompt."""
    prefill: float = FIRST_BYTE[1]
    """For each uncached prompt token."""
    step: float = STEP[0]
    """For each token of the answer, in a batch of its own."""
    sequence: float = STEP[1]
    """For each token of the answer and each sequence more in the batch."""
    attempts: float = 1.0
    """1 / (1 - share of failures): how often a request must be sent until it succeeds."""
    sent: float = 0.0
    """All prompt tokens that it was ever sent."""
    busy_until: float = 0.0
    """When the prompts that were sent there will have been computed."""
    places: int = 0
    """LoRA adapters that fit at once."""
    adapters: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """LoRA adapters that were used there lately, least recently first."""
    slow_prefill: float = 0.0
    """Natural logarithm of the server's factor on the pool's line."""
    slow_decode: float = 0.0
    failing: float = 0.0
    learnt_at: float = 0.0


@dataclass(slots=True)
class Typical:
    """A request of this pool, as those that finished lately."""

    uncached_tokens: float = 500.0
    context_tokens: float = 1_000.0
    output_tokens: float = DEFAULT_OUTPUT_TOKENS
    fill: float = 0.0
    """Share of its limit that an answer with a limit came to."""
    seconds: float = 4.0

    def output(self, max_tokens: int) -> float:
        """Return how many tokens an answer limited to `max_tokens` (0: unlimited) is expected to have."""
        if not max_tokens:
            return self.output_tokens
        return min(max_tokens, max(self.output_tokens, self.fill * max_tokens))


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a request that ended teaches of its server."""

    completed: bool
    broken: bool
    """By its server's fault; neither is somebody who stopped waiting."""
    ahead: float
    """Prompt tokens that the server had to compute until the end of this prompt."""
    batch: float
    """Mean size of the server's batch while it was there, in sequences."""
    prompt_tokens: int
    """Of these, its own."""
    context_tokens: int
    max_tokens: int
    seconds: float
    first_token: float | None
    output_tokens: int


class Fleet:
    """The servers of one pool, by slot."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._first = Line(*FIRST_BYTE)
        self._step = Line(*STEP)
        self.typical = Typical()
        self.paces: list[Pace] = []

    def admit(self, slot: int) -> None:
        """Make room for `slot`, whose server nobody knows."""
        self.paces.extend(Pace() for _ in range(slot + 1 - len(self.paces)))
        self.paces[slot] = Pace(learnt_at=self._clock())
        self._apply(self.paces[slot])

    def sent(self, entry: Entry) -> tuple[float, float]:
        """Count a prompt as to be computed.

        Returns the prompt tokens that its server has yet to compute up to its end, and all that it was ever sent.
        """
        return self.heard(entry, self._clock())

    def heard(self, request: Entry | Foreign, at: float) -> tuple[float, float]:
        """Count a prompt that was sent at `at`, as `sent` does."""
        pace = self.paces[request.slot]
        end = max(pace.busy_until, at) + request.prompt_tokens * pace.prefill
        pace.busy_until = end
        pace.sent += request.prompt_tokens
        if pace.places:
            pace.adapters[request.model] = None
            pace.adapters.move_to_end(request.model)
            self._evict(pace)
        return (end - at) / pace.prefill, pace.sent

    def passed(self, entry: Entry | Foreign) -> None:
        """Note that a prompt has been computed, and so have those before it: what is left was sent later."""
        pace = self.paces[entry.slot]
        later = max(0.0, pace.sent - entry.mark)
        pace.busy_until = min(pace.busy_until, self._clock() + later * pace.prefill)

    def unsent(self, entry: Entry | Foreign) -> None:
        """Take back what `sent` counted: the prompt went elsewhere."""
        pace = self.paces[entry.slot]
        pace.busy_until -= entry.prompt_tokens * pace.prefill

    def idle(self, slot: int) -> None:
        """Note that nothing is in flight: whatever the queue was thought to be, it is empty."""
        self.paces[slot].busy_until = 0.0

    def looked_at(self, slot: int, places: int) -> None:
        """Note that the server at `slot` has `places` for adapters, and let old opinions of it decay."""
        pace, now = self.paces[slot], self._clock()
        keep = 0.5 ** ((now - pace.learnt_at) / HALF_LIFE)
        pace.learnt_at, pace.places = now, places
        pace.slow_prefill *= keep
        pace.slow_decode *= keep
        pace.failing *= keep
        self._evict(pace)
        self._apply(pace)

    def finished(self, entry: Entry, end: Finished, batch: float) -> Lesson:
        """Learn from the end of a request and return what; `batch`: the size of its server's batch now, in sequences."""
        taught = _lesson(entry, end, (entry.batch + batch) / 2)
        if taught.completed:
            self.passed(entry)
        self.learn(entry.slot, taught)
        return taught

    def learn(self, slot: int, taught: Lesson) -> None:
        """Learn from a request that the server at `slot` had, whoever sent it."""
        pace = self.paces[slot]
        pace.failing += FAILURE_GAIN * (taught.broken - pace.failing)
        if taught.completed:
            self._typical(taught)
            self._measure(pace, taught)
        elif not taught.broken:
            self._overdue(pace, taught)
        self._apply(pace)

    def _measure(self, pace: Pace, end: Lesson) -> None:
        first, step, tokens = self._first(end.ahead), self._step(end.batch), end.output_tokens
        if end.first_token is not None and tokens > 1:
            each = (end.seconds - end.first_token) / (tokens - 1)
            pace.slow_prefill = _toward(pace.slow_prefill, end.first_token / first, 1.0)
            pace.slow_decode = _toward(pace.slow_decode, each / step, min(1.0, tokens / FEW))
            self._first.learn(end.ahead, end.first_token)
            self._step.learn(end.batch, each)
        elif tokens:
            self._measure_whole(pace, end)

    def _measure_whole(self, pace: Pace, end: Lesson) -> None:
        """Learn from one time for prompt and answer: each gets the blame by its share of what was expected."""
        first, decode = self._first(end.ahead), end.output_tokens * self._step(end.batch)
        mine = first * math.exp(pace.slow_prefill) + decode * math.exp(pace.slow_decode)
        share, off = first / (first + decode), end.seconds / mine
        pace.slow_prefill = _toward(pace.slow_prefill, math.exp(pace.slow_prefill) * off, share)
        pace.slow_decode = _toward(pace.slow_decode, math.exp(pace.slow_decode) * off, 1 - share)
        ratio = end.seconds / (first + decode)
        self._first.learn(end.ahead, first * ratio, share)
        self._step.learn(end.batch, self._step(end.batch) * ratio, 1 - share)

    def _overdue(self, pace: Pace, end: Lesson) -> None:
        """Somebody stopped waiting: what is known is that it would have taken longer."""
        expected = self._first(end.ahead)
        if (
            end.first_token is None
            and not end.output_tokens
            and end.seconds > expected * math.exp(pace.slow_prefill)
        ):
            pace.slow_prefill = _toward(pace.slow_prefill, end.seconds / expected, 1.0)

    def _typical(self, end: Lesson) -> None:
        typical, tokens = self.typical, end.output_tokens
        typical.uncached_tokens += TYPICAL_GAIN * (end.prompt_tokens - typical.uncached_tokens)
        typical.context_tokens += TYPICAL_GAIN * (end.context_tokens + tokens - typical.context_tokens)
        typical.seconds += TYPICAL_GAIN * (end.seconds - typical.seconds)
        if tokens:
            typical.output_tokens += TYPICAL_GAIN * (tokens - typical.output_tokens)
            if end.max_tokens:
                typical.fill += TYPICAL_GAIN * (min(1.0, tokens / end.max_tokens) - typical.fill)

    def _apply(self, pace: Pace) -> None:
        prefill, decode = math.exp(pace.slow_prefill), math.exp(pace.slow_decode)
        pace.first = self._first.at_zero * prefill
        slower, now = self._first.slope * prefill / pace.prefill, self._clock()
        pace.prefill *= slower
        pace.busy_until = now + (pace.busy_until - now) * slower if pace.busy_until > now else 0.0
        pace.step = self._step.at_zero * decode
        pace.sequence = self._step.slope * decode
        pace.attempts = 1.0 / (1.0 - min(pace.failing, MOST_FAILING))

    @staticmethod
    def _evict(pace: Pace) -> None:
        while len(pace.adapters) > pace.places:
            pace.adapters.popitem(last=False)


def _lesson(entry: Entry, end: Finished, batch: float) -> Lesson:
    failed = (
        end.outcome is EndOutcome.SERVER_FAILED
        or end.status >= SERVER_ERROR
        or end.status == TOO_MANY_REQUESTS
    )
    return Lesson(
        completed=end.outcome is EndOutcome.COMPLETED and end.status < CLIENT_ERROR,
        broken=failed,
        ahead=entry.ahead,
        batch=batch,
        prompt_tokens=entry.prompt_tokens,
        context_tokens=entry.context_tokens,
        max_tokens=entry.max_tokens,
        seconds=end.seconds,
        first_token=end.first_token,
        output_tokens=end.output_tokens,
    )


def _toward(factor: float, ratio: float, share: float) -> float:
    """Move a logarithmic `factor` toward what was measured, which counts as at most `BOLD` times off."""
    error = math.log(max(ratio, 1e-9)) - factor
    step = GAIN * share * min(max(error, -LOG_BOLD), LOG_BOLD)
    return min(max(factor + step, -BOUND), BOUND)
