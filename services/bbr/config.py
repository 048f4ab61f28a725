"""What config/bbr.yaml may hold, and the rules and plugins it means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from services.bbr import access
from services.bbr.chain import Link
from services.bbr.plugins import OnError
from services.bbr.records import PluginId
from services.bbr.registry import PluginError, build, declared
from services.bbr.rules import BaseModel, Rules, UnknownModels
from services.bbr.sources import BODY, PATH
from services.extproc.config import ConfigError, Limits, Listen, Log, Seconds
from services.openai import rewrites
from services.tokens.config import TokenSource


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A base model, as servers name it, and its adapters."""

    name: str
    adapters: tuple[str, ...] = ()
    """LoRA adapters that the model's servers have or can load."""
    owned_by: str = "inference-gateway"
    """Shown in the list of models."""
    created: Annotated[int, Meta(ge=0)] = 0
    """Unix seconds, shown in the list of models; 0 when unknown."""


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model or adapter, and its share of a rewrite's requests."""

    model: str
    weight: Annotated[int, Meta(ge=1, le=rewrites.MAX_WEIGHT)] = 1


class Rewrite(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Names that are replaced, and by what."""

    name: Annotated[str, Meta(min_length=1)]
    """For metrics."""
    matches: tuple[str, ...] = ()
    """Exact names. Without any the rewrite is generic."""
    only_unknown: bool = False
    """A generic rewrite that leaves models and adapters alone."""
    targets: Annotated[tuple[Target, ...], Meta(min_length=1)]
    sticky: str = ""
    """`user`, `session` or `header:NAME`: equal values get the same target. Empty: chance."""


class Names(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Names that clients may ask for; `llama-*` stands for all that begin so."""

    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()

    def values(self) -> access.Names:
        """Return the lists as rules have them."""
        return access.Names(self.allow, self.deny)


class Access(Names, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everybody's lists, and each consumer's on top."""

    consumer_header: str = ""
    """A header that an authenticating proxy in front of the gateway sets."""
    consumers: dict[str, Names] = msgspec.field(default_factory=dict)
    unknown_consumers: Literal["allow", "deny"] = "allow"
    """For a request without the header, with two of it, or with a consumer that is not listed."""
    refusal: Literal["not_found", "forbidden"] = "not_found"
    """404, which does not tell that the model exists, or 403."""

    def __post_init__(self) -> None:
        if self.consumers and not self.consumer_header:
            raise ValueError("`consumers` needs `consumer_header`")

    def rules(self) -> access.Access:
        """Return the access as rules have it."""
        return access.Access(
            everyone=self.values(),
            consumer_header=self.consumer_header.lower(),
            consumers={name: names.values() for name, names in self.consumers.items()},
            unknown=access.NOTHING if self.unknown_consumers == "deny" else access.EVERYTHING,
            forbids=self.refusal == "forbidden",
        )


class Plugin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A plugin in the chain."""

    type: str
    name: str = ""
    """For metrics and logs; the type where absent."""
    parameters: dict[str, object] = msgspec.field(default_factory=dict)
    on_error: OnError | None = None
    """`open` or `closed`; what the plugin itself declares where absent."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """config/bbr.yaml."""

    listen: Listen = msgspec.field(
        default_factory=lambda: Listen(port=9004, health_port=9005, metrics_port=9094)
    )
    log: Log = Log()
    limits: Limits = Limits()
    reload_seconds: Seconds = 1.0
    """How often the file is looked at for changes; 0 never."""
    models: tuple[Model, ...]
    aliases: dict[str, str] = msgspec.field(default_factory=dict)
    """Another name → a model or adapter. Bodies are rewritten to the name that the server knows."""
    rewrites: tuple[Rewrite, ...] = ()
    unknown_models: UnknownModels = UnknownModels.REJECT
    default_model: str = ""
    """What a request asks for that names no model."""
    model_sources: tuple[str, ...] = (BODY, PATH)
    """`body`, `path` and `header:NAME`; the first that names a model counts."""
    answer_model: Literal["asked", "served"] = "asked"
    """Whose name for the model an answer carries after a rewrite: the client's, or the server's."""
    access: Access = Access()
    plugins: tuple[Plugin, ...] = ()
    tokens: dict[str, TokenSource] = msgspec.field(default_factory=dict)
    """By model of `models`: where its prompts' tokens come from, for pickers that know exactly what servers hold."""

    def __post_init__(self) -> None:
        unknown = sorted(self.tokens.keys() - {model.name for model in self.models})
        if unknown:
            raise ValueError(
                f"tokens: no model {unknown[0]!r} under `models`; adapters have their model's tokens"
            )
        self.rules()  # a contradiction is an error of the file, told with its path

    def rules(self) -> Rules:
        """Return the rules that the file means."""
        return Rules(
            models=tuple(
                BaseModel(model.name, model.adapters, model.owned_by, model.created) for model in self.models
            ),
            aliases=self.aliases,
            unknown=self.unknown_models,
            rewrites=tuple(map(_rewrite, self.rewrites)),
            default_model=self.default_model,
            sources=tuple(map(str.lower, self.model_sources)),
            access=self.access.rules(),
            answers_named_as_asked=self.answer_model == "asked",
        )

    def chain(self) -> Iterator[Link]:
        """Make the plugins; raise `ConfigError` for one that cannot be made."""
        for number, entry in enumerate(self.plugins):
            try:
                plugin = build(entry.type, entry.parameters)
            except PluginError as error:
                raise ConfigError(f"$.plugins[{number}]: {error}") from error
            identity = PluginId(entry.type, entry.name or entry.type)
            yield Link(identity, plugin, entry.on_error or declared(plugin))

    def fixed(self) -> Mapping[str, object]:
        """Return what is read at start only."""
        names = ("listen", "log", "limits", "reload_seconds", "plugins", "tokens")
        return {name: getattr(self, name) for name in names}


def _rewrite(entry: Rewrite) -> rewrites.Rewrite:
    return rewrites.Rewrite(
        name=entry.name,
        targets=tuple(rewrites.Target(target.model, target.weight) for target in entry.targets),
        matches=entry.matches,
        only_unknown=entry.only_unknown,
        sticky=entry.sticky.lower(),
    )
