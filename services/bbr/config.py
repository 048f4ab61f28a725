"""What config/bbr.yaml may hold, and the rules it means."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from services.bbr.rules import BaseModel, Rules, UnknownModels
from services.extproc.config import Limits, Listen, Log


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A base model, as servers name it, and its adapters."""

    name: str
    adapters: tuple[str, ...] = ()
    """LoRA adapters that the model's servers have or can load."""
    owned_by: str = "inference-gateway"
    """Shown in the list of models."""
    created: Annotated[int, Meta(ge=0)] = 0
    """Unix seconds, shown in the list of models; 0 when unknown."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """config/bbr.yaml."""

    listen: Listen = msgspec.field(
        default_factory=lambda: Listen(port=9004, health_port=9005, metrics_port=9094)
    )
    log: Log = Log()
    limits: Limits = Limits()
    models: tuple[Model, ...]
    aliases: dict[str, str] = msgspec.field(default_factory=dict)
    """Another name → a model or adapter. Bodies are rewritten to the name that the server knows."""
    unknown_models: UnknownModels = UnknownModels.REJECT

    def __post_init__(self) -> None:
        self.rules()  # a contradiction is an error of the file, told with its path

    def rules(self) -> Rules:
        """Return the rules that the file means."""
        models = tuple(
            BaseModel(model.name, model.adapters, model.owned_by, model.created) for model in self.models
        )
        return Rules(models, self.aliases, self.unknown_models)
