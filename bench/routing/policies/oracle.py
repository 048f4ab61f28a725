"""The bound: a greedy choice by the servers' true state, their true constants and the answers' true lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench.routing.policies.base import Choice, Surroundings
from bench.routing.policies.informed import Informed
from bench.routing.turns import BLOCK, Turn

BURDEN = 0.5
"""Seconds taken from those that are there, against own seconds."""
FORESIGHT = 1.0
"""Seconds taken from those that the fleet will have there, against own seconds."""


class Oracle(Informed):
    """Where the request and those that are there lose the least time in all, by what the engines know themselves."""

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self._uses = Counter(
            block for turn in around.future for block in turn.blocks[: turn.prompt_tokens // BLOCK]
        )
        """How many sessions begin with each block."""
        self._homed: list[dict[int, int]] = [{} for _ in around.engines]
        """Tokens of each session that goes on, at the server that had it last."""

    def server(self, turn: Turn, ready: Sequence[int]) -> int:
        """Compute it for every server."""
        busy = sum(self.outstanding[n] for n in ready) / len(ready)
        return min((self._cost(turn, n, busy), self.around.rng.random(), n) for n in ready)[-1]

    def sent(self, turn: Turn, choice: Choice, server: int) -> None:
        """Note where the session is at home."""
        super().sent(turn, choice, server)
        for homed in self._homed:
            homed.pop(turn.session, None)
        if turn.then is not None:
            self._homed[server][turn.session] = turn.prompt_tokens + turn.output_tokens

    def _cost(self, turn: Turn, n: int, busy: float) -> float:
        engine = self.around.engines[n]
        profile, jobs = engine.profile, engine.batch
        cached = self.cached(turn, n)
        mine = (turn.prompt_tokens - cached) / profile.prefill_rate
        lasting = mine - self._spread(turn, cached) / profile.prefill_rate
        output, tokens = turn.output_tokens, turn.prompt_tokens + turn.output_tokens
        slower = profile.decode_per_sequence + profile.context_read * tokens
        # For how much of the answer the others are there: they slow it, and it slows them.
        shared = [min(output, job.request.output_tokens - job.produced) for job in jobs]
        context = [job.computed for job in jobs]
        mates, reads = sum(shared), sum(a * b for a, b in zip(shared, context, strict=True))
        decode = output * (profile.decode_base + slower)
        decode += mates * profile.decode_per_sequence + reads * profile.context_read
        wait = self.uncomputed[n] / profile.prefill_rate + self._room(turn, n, sum(context))
        wait += self._slot(turn, n, decode)
        lasting += self._evicted(turn, n) / profile.prefill_rate
        others = self.outstanding[n] * lasting + mates * slower
        return wait + mine + decode + BURDEN * others + FORESIGHT * busy * lasting

    def _evicted(self, turn: Turn, n: int) -> float:
        """Return the tokens of other sessions that go on and will have to be computed again, because of this one."""
        homed, size = self._homed[n], turn.prompt_tokens + turn.output_tokens
        capacity = self.around.engines[n].profile.max_model_len
        return min(size, max(0, sum(homed.values()) - homed.get(turn.session, 0) + size - capacity))

    def _spread(self, turn: Turn, cached: int) -> float:
        """Return how much of what is to be computed is no loss: prompts that many sessions use belong everywhere."""
        servers, spread = len(self.around.engines), 0.0
        for block in turn.blocks[cached // BLOCK : turn.prompt_tokens // BLOCK]:
            uses = self._uses[block]
            if uses <= servers:
                break
            spread += BLOCK * (1 - servers / uses)
        return spread

    def _slot(self, turn: Turn, n: int, decode: float) -> float:
        """Return the seconds until the adapter is there: as long as this answer where others use all the slots."""
        engine = self.around.engines[n]
        if not turn.adapter or turn.adapter in engine.adapters.loaded:
            return 0.0
        used = {*engine.running_adapters(), *engine.waiting_adapters(), turn.adapter}
        over = max(0, len(used) - engine.adapters.slots)
        return engine.profile.adapter_load + over * decode

    def _room(self, turn: Turn, n: int, context: int) -> float:
        """Return the seconds until enough KV cache is free, if those that are there leave as evenly as they came."""
        engine = self.around.engines[n]
        profile = engine.profile
        missing = self.claims[n] + turn.prompt_tokens + turn.output_tokens - engine.kv.available * BLOCK
        if missing <= 0 or not context:
            return 0.0
        batch = engine.running
        step = profile.decode_base + profile.decode_per_sequence * batch + profile.context_read * context
        answer = sum(job.request.output_tokens for job in engine.batch) / batch
        return missing / context * answer * step
