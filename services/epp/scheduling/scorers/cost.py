"""Servers where the request costs less time are better: the scorer of the default profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.epp.cost.estimate import Job, Prices, estimate
from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation

PRICES = Prices()


@dataclass(frozen=True, slots=True)
class Cost:
    """least cost / cost, where those within `margin` of the least get 1, so that the picker draws among them.

    Costs are weighted seconds; their formula is `services.epp.cost.estimate`. The score falls off smoothly: together with
    other scorers, a weight of 1 gives half for twice the time.
    """

    margin: float = 0.01
    """Relative; what the estimate cannot tell apart must not be told apart by the order of the list."""
    burden: float = PRICES.burden
    """Seconds that the request takes from those that are there, against seconds of its own."""
    foresight: float = PRICES.foresight
    """The same for those that the pool will have there soon: so many times the root of the mean batch and the share of
    time that prompts take now."""
    patience: float = PRICES.patience
    """Seconds after the first token that are as bad as one before it."""
    handling_seconds: float = PRICES.handling
    """What each request at a server costs the others there, whatever the model's speed."""
    adapter_load_seconds: float = PRICES.adapter_load
    prices: Prices = field(init=False)

    def __post_init__(self) -> None:
        weights = (
            self.burden,
            self.foresight,
            self.patience,
            self.handling_seconds,
            self.adapter_load_seconds,
        )
        if min(self.margin, *weights) < 0:
            raise ValueError(
                "margin, burden, foresight, patience, handlingSeconds and adapterLoadSeconds must not be negative"
            )
        object.__setattr__(self, "prices", Prices(*weights))

    def score(self, situation: Situation, servers: Sequence[Server]) -> Sequence[float]:
        """Score by cost."""
        costs = self.seconds(situation, servers)
        good = min(costs) * (1.0 + self.margin)
        return [good / cost if cost > good else 1.0 for cost in costs]

    def seconds(self, situation: Situation, servers: Sequence[Server]) -> list[float]:
        """Return the estimates themselves."""
        digest = situation.digest
        cached = {slot: digest.prefix_tokens(blocks) for slot, blocks in situation.matches.items()}
        job = Job(
            prompt_tokens=digest.prompt_tokens,
            output_tokens=situation.typical.output(digest.max_tokens),
            cached=cached,
            now=situation.now,
            adapter="" if digest.model == situation.base_model else digest.model,
            goes_on=situation.goes_on,
        )
        return estimate(job, servers, situation.loads, situation.paces, situation.typical, self.prices)
