"""What a policy can count when the servers tell what they have cached."""

from __future__ import annotations

from collections import Counter

from bench.routing.policies.base import Choice, End, Policy, Surroundings
from bench.routing.turns import BLOCK, Turn


class Informed(Policy):
    """Knows the caches as they are, and the prompt tokens that each server has yet to compute."""

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self.uncomputed = [0] * len(around.engines)
        """Uncached prompt tokens of the requests that have no first token yet."""
        self.claims = [0] * len(around.engines)
        """Tokens of KV cache that these requests need and do not find."""
        self._sent: dict[int, tuple[int, int, int]] = {}
        self._coming: list[Counter[int]] = [Counter() for _ in around.engines]
        """Blocks of the prompts that are on their way into the cache."""

    def cached(self, turn: Turn, server: int) -> int:
        """Return how many tokens of the prompt `server` need not compute, by its cache and by its queue.

        The last token always is computed.
        """
        held = self.around.engines[server].kv.held(turn.blocks)
        coming = self._coming[server]
        if coming:
            whole = turn.prompt_tokens // BLOCK
            while held < whole and turn.blocks[held] in coming:
                held += 1
        return min(held * BLOCK, turn.prompt_tokens - 1)

    def sent(self, turn: Turn, choice: Choice, server: int) -> None:
        """Count the prompt as to be computed."""
        super().sent(turn, choice, server)
        uncached = turn.prompt_tokens - self.cached(turn, server)
        claim = uncached + turn.output_tokens
        self._sent[id(turn)] = (server, uncached, claim)
        self._coming[server].update(self._missing(turn, uncached))
        self.uncomputed[server] += uncached
        self.claims[server] += claim

    def first_token(self, turn: Turn, choice: Choice, server: int) -> None:  # noqa: ARG002 - the interface's
        """Count the prompt no more."""
        self._forget(turn)

    def ended(self, turn: Turn, choice: Choice, server: int, end: End) -> None:
        """Count the prompt no more, if it was never computed."""
        super().ended(turn, choice, server, end)
        self._forget(turn)

    def _forget(self, turn: Turn) -> None:
        server, uncached, claim = self._sent.pop(id(turn), (0, 0, 0))
        if uncached:
            coming = self._coming[server]
            coming.subtract(blocks := self._missing(turn, uncached))
            for block in blocks:
                if not coming[block]:
                    del coming[block]
        self.uncomputed[server] -= uncached
        self.claims[server] -= claim

    @staticmethod
    def _missing(turn: Turn, uncached: int) -> tuple[int, ...]:
        return turn.blocks[(turn.prompt_tokens - uncached) // BLOCK : turn.prompt_tokens // BLOCK]
