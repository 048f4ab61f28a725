"""The answers to `GET /v1/models` and `GET /v1/models/{id}`, over every pool, adapter and alias."""

from __future__ import annotations

from collections.abc import Iterator

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
    """What an adapter is served on, or what an alias stands for."""
    object: str = "model"


class ModelList:
    """Both answers for one set of rules, built once."""

    __slots__ = ("_all", "_one", "rules")

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        cards = tuple(_cards(rules))
        self._all = _answer({"object": "list", "data": cards})
        self._one = {card.id: _answer(card) for card in cards}

    def answer(self, model: str) -> Reject | None:
        """Return the answer for the list (`model` is empty) or for one model; None when there is no such model.

        In the protocol, to answer at once is to reject: the status is 200.
        """
        return self._one.get(model) if model else self._all


def _cards(rules: Rules) -> Iterator[Card]:
    base = {model.name: model for model in rules.models}
    for name, way in rules.ways.items():
        parent = way.target if way.rewritten else way.base
        yield _card(name, base[way.base], None if name == way.base else parent)


def _card(name: str, base: BaseModel, parent: str | None) -> Card:
    return Card(id=name, created=base.created, owned_by=base.owned_by, root=base.name, parent=parent)


def _answer(content: object) -> Reject:
    return Reject(200, body=msgspec.json.encode(content), headers=_JSON, details="bbr_models")
