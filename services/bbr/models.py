"""The answers to `GET /v1/models` and `GET /v1/models/{id}`, over every pool, adapter and alias."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from services.bbr.rules import BaseModel, Rules
from services.extproc.decisions import Reject

_JSON = (("content-type", "application/json"),)


class Card(msgspec.Struct, frozen=True):
    """One model as OpenAI's and vLLM's lists show it."""

    id: str
    created: int
    owned_by: str
    root: str
    """The base model whose weights answer."""
    parent: str | None
    """What an adapter is served on, or what an alias or rewritten name stands for most of the time."""
    object: str = "model"


class ModelList:
    """Both answers for one set of rules, built once for each consumer that the rules list."""

    __slots__ = ("_answers", "_cards", "rules")

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._cards = tuple(_cards(rules))
        self._answers: dict[str, Mapping[str, Reject]] = {}

    def answer(self, model: str, consumer: str = "") -> Reject | None:
        """Return the answer for the list (`model` is empty) or for one model; None when there is no such model.

        `consumer` is one of `Access.group`. In the protocol, to answer at once is to reject: the status is 200.
        """
        if consumer not in self._answers:
            self._answers[consumer] = self._permitted(consumer)
        return self._answers[consumer].get(model)

    def _permitted(self, consumer: str) -> dict[str, Reject]:
        cards = [card for card in self._cards if self.rules.access.permits(consumer, card.id)]
        return {"": _answer({"object": "list", "data": cards})} | {card.id: _answer(card) for card in cards}


def _cards(rules: Rules) -> Iterator[Card]:
    base = {model.name: model for model in rules.models}
    for name, way in rules.ways.items():
        parent = way.target if way.rewritten else way.base
        yield _card(name, base.get(way.base, BaseModel(way.base)), None if name == way.base else parent)


def _card(name: str, base: BaseModel, parent: str | None) -> Card:
    return Card(id=name, created=base.created, owned_by=base.owned_by, root=base.name, parent=parent)


def _answer(content: object) -> Reject:
    return Reject(200, body=msgspec.json.encode(content), headers=_JSON, details="bbr_models")
