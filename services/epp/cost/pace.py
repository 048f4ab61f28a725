"""How fast each server of a pool is, learnt from the requests that it finished, and how long its prompts will keep it.

Two models are learnt for the pool: seconds to the first byte against prompt tokens to compute, and seconds for each
step against the batch, its sequences and the context that they read. A step in which prompts are computed is longer by
these, so that they are taken out of an answer's duration before anything is learnt from it. Each server has two factors
(`factor`) on the two models; they are learnt once the pool's models have settled, or whichever
server answered first would be taken for a fast one. The priors are the engine constants that SMG publishes for its
mock worker: 8,000 prompt tokens per second, a step of 6 ms + 0.35 ms for each sequence; all that is used of them in the
long run is their proportion. What one request taught is a `Lesson`: other replicas learn from it too.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from services.epp.cost.factor import HALF_LIFE, Factor
from services.epp.cost.lesson import Lesson
from services.epp.cost.terms import Terms
from services.epp.cost.typical import Typical
from services.epp.inflight import Entry
from services.epp.load import Load
from services.epp.others import Foreign
from services.epp.records import EndOutcome, Finished

FIRST_BYTE = (0.002, 1 / 8_000)
"""Seconds until the first byte besides waiting and steps (network, templates), and for each prompt token."""
STEP = (0.006, 0.00035, 39e-9)
"""Seconds for a step of an empty batch, for each sequence in it, and for each token of their contexts: an H100 reads the
128 KiB that a token of an 8B model takes in the KV cache in 39 ns."""
FEW = 32
"""Tokens of an answer below which its pace is mostly noise."""
FAILURE_GAIN = 0.1
MOST_FAILING = 0.95
LONGER = 8.0
"""Seconds over which the requests at a server are averaged, to know who comes back there: longer than a pause or two."""
Batch = tuple[float, float, float]
"""What a step's time is the sum of: once, for each sequence, for each token of context."""
NOTHING: Batch = (0.0, 0.0, 0.0)
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
    context: float = STEP[2]
    """For each token of the answer and each token of context that the batch reads."""
    attempts: float = 1.0
    """1 / (1 - share of failures): how often a request must be sent until it succeeds."""
    sent: float = 0.0
    """All prompt tokens that it was ever sent."""
    stalled: float = 0.0
    """The same without those that are computed while the weights are read anyway: what decoding stood still for."""
    busy_until: float = 0.0
    """When the prompts that were sent there will have been computed."""
    usual: float = 0.0
    """Requests there as it reports them, in the mean of the last `LONGER`, and one more for each new conversation."""
    paused_tokens: int = 0
    """What conversations have in its cache that may go on, though nothing of them is in flight: `Pauses`."""
    begins: float = 0.0
    """When the last step with prompts begins that is known of: what is sent before joins it."""
    places: int = 0
    """LoRA adapters that fit at once."""
    adapters: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """LoRA adapters that were used there lately, least recently first."""
    slow_prefill: Factor = field(default_factory=Factor)
    """On the pool's seconds for prompts."""
    slow_decode: Factor = field(default_factory=Factor)
    """On the pool's seconds for steps."""
    failing: float = 0.0
    learnt_at: float = 0.0

    def wait(self, now: float, batch: float) -> float:
        """Return the seconds until a prompt that comes now is begun, and those that the batch adds to its step.

        `batch`: what the requests there add to a step, in seconds. A prompt waits for the step in flight, half of one in
        the mean, or for the one that computes the prompts before it; what comes before a step begins joins it.
        """
        left = self.busy_until - now
        if left <= 0.0:
            return (self.step + batch) / 2 + batch
        return left + batch if now >= self.begins else left


class Place(NamedTuple):
    """Where a prompt is in its server's queue, in prompt tokens."""

    ahead: float
    """Those to be computed up to its end, other work until then included."""
    sent: float
    """All that the server was ever sent: `Pace.sent`."""
    stalled: float
    """`Pace.stalled`."""


class Fleet:
    """The servers of one pool, by slot."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._model = Terms((*FIRST_BYTE, *STEP))
        self.typical = Typical()
        self.paces: list[Pace] = []

    def admit(self, slot: int) -> None:
        """Make room for `slot`, whose server nobody knows."""
        self.paces.extend(Pace() for _ in range(slot + 1 - len(self.paces)))
        self.paces[slot] = Pace(learnt_at=self._clock())
        self._apply(self.paces[slot])

    def sent(self, entry: Entry) -> Place:
        """Count a prompt as to be computed, and return its place in the server's queue."""
        return self.heard(entry, self._clock(), entry.batch, entry.reads)

    def heard(self, request: Entry | Foreign, at: float, sequences: float, reads: float) -> Place:
        """Count a prompt that was sent at `at`, as `sent` does; `sequences` that read `reads` tokens were there."""
        pace = self.paces[request.slot]
        batch = sequences * pace.sequence + reads * pace.context
        end = at + (pace.wait(at, batch) if sequences else max(0.0, pace.busy_until - at))
        if at >= pace.begins:
            pace.begins = end - batch
        mine = request.prompt_tokens * pace.prefill
        self.typical.sent(at, mine)
        end += mine
        pace.busy_until = end
        # A conversation that begins is at home there at once, or those that begin together all go to one server.
        pace.usual += _begun(request)
        pace.sent += request.prompt_tokens
        pace.stalled += max(0.0, request.prompt_tokens - pace.step / pace.prefill)
        if pace.places:
            pace.adapters[request.model] = None
            pace.adapters.move_to_end(request.model)
            self._evict(pace)
        return Place((end - at) / pace.prefill, pace.sent, pace.stalled)

    def passed(self, entry: Entry | Foreign) -> None:
        """Note that a prompt has been computed, and so have those before it: what is left was sent later."""
        pace = self.paces[entry.slot]
        later = max(0.0, pace.sent - entry.mark)
        pace.busy_until = min(pace.busy_until, self._clock() + later * pace.prefill)

    def unsent(self, entry: Entry | Foreign) -> None:
        """Take back what `sent` counted: the prompt went elsewhere."""
        pace = self.paces[entry.slot]
        pace.busy_until -= entry.prompt_tokens * pace.prefill
        pace.usual = max(0.0, pace.usual - _begun(entry))

    def idle(self, slot: int) -> None:
        """Note that nothing is in flight: whatever the queue was thought to be, it is empty."""
        self.paces[slot].busy_until = 0.0

    def looked_at(self, slot: int, places: int, requests: int) -> None:
        """Note that the server at `slot` has `places` for adapters and `requests`; let old opinions of it decay."""
        pace, now = self.paces[slot], self._clock()
        age = now - pace.learnt_at
        pace.learnt_at, pace.places = now, places
        pace.usual += (requests - pace.usual) * (1.0 - math.exp(-age / LONGER))
        pace.slow_prefill.age(age)
        pace.slow_decode.age(age)
        pace.failing *= 0.5 ** (age / HALF_LIFE)
        self._evict(pace)
        self._apply(pace)

    def finished(self, entry: Entry, end: Finished, load: Load) -> Lesson:
        """Learn from the end of a request and return what.

        `load`: what is in flight at its server, the request included.
        """
        if _completed(end):
            self.passed(entry)
        taught = _lesson(entry, end, load, self._computed_since(entry))
        self.learn(entry.slot, taught)
        return taught

    def learn(self, slot: int, taught: Lesson) -> None:
        """Learn from a request that the server at `slot` had, whoever sent it."""
        pace = self.paces[slot]
        pace.failing += FAILURE_GAIN * (taught.broken - pace.failing)
        if taught.completed:
            self.typical.learn(taught)
            self._measure(pace, taught)
        elif not taught.broken:
            self._overdue(pace, taught)
        # Later the others hear of it with their next look: a thousand of them are too many for each request.
        for one in [pace] if self._model.settled else self.paces:
            self._apply(one)

    def _measure(self, pace: Pace, end: Lesson) -> None:
        tokens, batch = end.output_tokens, (1.0, end.batch, end.reads)
        if end.first_token is None or tokens <= 1:
            if tokens:
                self._measure_whole(pace, end, (1.0, end.ahead + end.stalls), _times(tokens, batch))
            return
        prompt, answer = (1.0, end.ahead, *NOTHING), (0.0, 0.0, *batch)
        each = max(0.0, end.seconds - end.first_token - end.stalls * pace.prefill) / (tokens - 1)
        if self._model.settled:
            pace.slow_prefill.learn(end.first_token / self._model(prompt), 1.0)
            pace.slow_decode.learn(each / self._model(answer), min(1.0, tokens / FEW))
        self._model.learn(prompt, end.first_token)
        self._model.learn(answer, each)

    def _measure_whole(self, pace: Pace, end: Lesson, prompts: tuple[float, float], answer: Batch) -> None:
        """Learn from one time for prompts and answer: each gets the blame by its share of what was expected.

        A server that is slow is taken to be slow at both. The longer the queue, the less is known of it: how much was
        in it is itself a guess.
        """
        whole = (*prompts, *answer)
        if self._model.settled:
            queue_and_own = self._model((*prompts, *NOTHING))
            decode = self._model(whole) - queue_and_own
            own = self._model((1.0, min(end.prompt_tokens, end.ahead), *NOTHING))
            weight = (own + decode) / (queue_and_own + decode)
            prefill, step = math.exp(pace.slow_prefill.log), math.exp(pace.slow_decode.log)
            off = end.seconds / (queue_and_own * prefill + decode * step)
            pace.slow_prefill.learn(prefill * off, weight)
            pace.slow_decode.learn(step * off, weight)
        self._model.learn(whole, end.seconds)

    def _computed_since(self, entry: Entry) -> float:
        """Return the prompt tokens sent after `entry` and computed by now: decoding there stood still for them."""
        pace = self.paces[entry.slot]
        pending = max(0.0, pace.busy_until - self._clock()) / pace.prefill
        return max(0.0, pace.stalled - entry.stalled - pending)

    def _overdue(self, pace: Pace, end: Lesson) -> None:
        """Somebody stopped waiting: what is known is that it would have taken longer."""
        expected = self._model((1.0, end.ahead, *NOTHING))
        if (
            end.first_token is None
            and not end.output_tokens
            and end.seconds > expected * math.exp(pace.slow_prefill.log)
        ):
            pace.slow_prefill.learn(end.seconds / expected, 1.0)

    def _apply(self, pace: Pace) -> None:
        prefill, decode = pace.slow_prefill.value, pace.slow_decode.value
        first, each, *step = self._model.rates
        pace.first = first * prefill
        slower, now = each * prefill / pace.prefill, self._clock()
        pace.prefill *= slower
        pace.busy_until = now + (pace.busy_until - now) * slower if pace.busy_until > now else 0.0
        pace.step, pace.sequence, pace.context = [rate * decode for rate in step]
        pace.attempts = 1.0 / (1.0 - min(pace.failing, MOST_FAILING))

    @staticmethod
    def _evict(pace: Pace) -> None:
        while len(pace.adapters) > pace.places:
            pace.adapters.popitem(last=False)


def _begun(request: Entry | Foreign) -> float:
    """Return how far a conversation begins with `request`: 1 where nothing of it was cached, 0 from half of it on."""
    return max(0.0, 2.0 * request.prompt_tokens / max(request.context_tokens, 1) - 1.0)


def _completed(end: Finished) -> bool:
    return end.outcome is EndOutcome.COMPLETED and end.status < CLIENT_ERROR


def _lesson(entry: Entry, end: Finished, load: Load, stalls: float) -> Lesson:
    failed = (
        end.outcome is EndOutcome.SERVER_FAILED
        or end.status >= SERVER_ERROR
        or end.status == TOO_MANY_REQUESTS
    )
    return Lesson(
        completed=_completed(end),
        broken=failed,
        ahead=entry.ahead,
        stalls=stalls,
        batch=(entry.batch + load.requests) / 2,
        reads=(entry.reads + load.context_tokens) / 2,
        prompt_tokens=entry.prompt_tokens,
        context_tokens=entry.context_tokens,
        max_tokens=entry.max_tokens,
        seconds=end.seconds,
        first_token=end.first_token,
        output_tokens=end.output_tokens,
        again_tokens=entry.again_tokens,
    )


def _times(tokens: int, batch: Batch) -> Batch:
    once, sequences, context = batch
    return (tokens * once, tokens * sequences, tokens * context)
