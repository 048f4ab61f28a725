"""What config/safety.yaml may hold: the classes are its reference page."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from services.extproc.config import Limits, Listen, Log
from services.safety.armor_config import ModelArmorConfig
from services.safety.audit_config import AuditConfig
from services.safety.facades.config import FacadesConfig
from services.safety.verdict import Action, Confidence

Unjudged = Literal["skipped", "partial", "timeout", "limit", "throttled", "error"]
"""The states in which something is left unjudged."""


class ActionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to do about findings of some rules."""

    match: tuple[str, ...]
    """Rule ids, blocklist names or categories."""
    action: Action
    roles: tuple[str, ...] = ()
    """Only in texts of these roles: `user`, `system`, `tool` … Empty: in all."""
    confidence: Confidence = Confidence.LOW
    """Only findings at least this sure."""
    on_error: Literal["closed", "open"] | None = None
    """What could not be judged for it, where it differs from the side's `on_error`."""
    redact_with: Literal["mask", "hash", "placeholder"] = "mask"
    """For `redact`: the side's mask, the mask with a keyed hash, or a name that the answer gets back replaced."""


class ProviderUse(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A provider on one side of a policy."""

    name: str
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 2.0
    """Seconds, within the side's `deadline`."""
    weight: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    """Of its vote, where the side's `combine` is `weighted`."""
    on_state: dict[Unjudged, Literal["closed", "open"]] = msgspec.field(default_factory=dict)
    """What a state other than `judged` does, where it differs from the side's `on_error`."""


class SideConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One direction of a policy. Without actions, checks and providers nothing is looked at."""

    actions: tuple[ActionConfig, ...] = ()
    """The first entry that fits a finding decides; rules that fit none are not run."""
    checks: tuple[str, ...] = ()
    """Checks from the `checks` section; their findings are matched by `actions` too."""
    providers: tuple[ProviderUse, ...] = ()
    combine: Literal["any", "all", "weighted"] = "any"
    """How many of the providers must block; `weighted` wants the share `threshold` of their weights."""
    threshold: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    deadline: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    """Seconds that all providers together may take for one prompt, or for one window of an answer."""
    on_error: Literal["closed", "open"] = "closed"
    """Whether what could not be judged goes on. Of a body that cannot be read: only if no entry says `closed`."""
    unscannable: Literal["block", "allow"] = "block"
    logprobs: Literal["drop", "keep"] = "drop"
    message: str = "Blocked by the content policy: {category}."
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 403
    error_type: Literal["json", "plain_text"] = "json"
    """`plain_text`: refusals as GKE's traffic extension sends them, for clients that expect these."""
    mask: str = "[REDACTED:{rule}]"
    hold_limit: Annotated[int, msgspec.Meta(ge=256, le=1048576)] = 8192
    at_limit: Literal["redact", "block"] = "redact"
    stream: Literal["exact", "window", "audit"] = "exact"
    """How a streamed answer is judged. Providers need `window` or `audit`."""
    window: Annotated[int, msgspec.Meta(ge=8, le=65536)] = 200
    """Tokens, of about four characters, of one text that wait at most."""
    overlap: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 50
    """Tokens at a window's end that wait for the next one too: of a match up to this long nothing leaves."""


class PolicyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One named policy."""

    prompt: SideConfig = SideConfig()
    response: SideConfig = SideConfig()
    shadow: str = ""
    """Another policy that judges the same traffic without effect; differences are reported."""


class PluginConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A check or provider that another package registers: its type, and parameters it checks itself."""

    type: str
    parameters: dict[str, object] = msgspec.field(default_factory=dict)


class SafetyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """config/safety.yaml."""

    listen: Listen = msgspec.field(
        default_factory=lambda: Listen(port=9006, health_port=9007, metrics_port=9096)
    )
    log: Log = Log()
    limits: Limits = Limits()
    policies: dict[str, PolicyConfig]
    model_armor: ModelArmorConfig | None = None
    """Further policies, in Model Armor's words."""
    default: str = "default"
    """The policy of models that `models` does not name."""
    models: dict[str, str] = msgspec.field(default_factory=dict)
    """Model → policy."""
    consumer_header: str = ""
    """The header in which an authenticating proxy names the consumer. A client must not be able to set it."""
    consumers: dict[str, str] = msgspec.field(default_factory=dict)
    """Consumer → policy; goes before the model's."""
    rules: tuple[str, ...] = ()
    """Further rule files, relative to the working directory."""
    blocklists: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    engine: Literal["re2", "hyperscan"] = "re2"
    """What looks for rules in a text at first; re2 confirms. `hyperscan` needs the extra of that name."""
    checks: dict[str, PluginConfig] = msgspec.field(default_factory=dict)
    providers: dict[str, PluginConfig] = msgspec.field(default_factory=dict)
    audit: AuditConfig = AuditConfig()
    facades: FacadesConfig | None = None
    """The policies as APIs for other gateways; None: not served."""
    audit_key: str = ""
    """Keys the hash of judged texts in the audit record; empty draws one at start, so hashes end with the process."""
