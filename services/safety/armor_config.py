"""Model Armor's configuration as Google writes it: settings of a traffic extension, templates, the floor."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Enforcement = Literal["FILTER_ENFORCEMENT_UNSPECIFIED", "ENABLED", "DISABLED"]
Level = Literal["DETECTION_CONFIDENCE_LEVEL_UNSPECIFIED", "LOW_AND_ABOVE", "MEDIUM_AND_ABOVE", "HIGH"]
LEVELS = ("LOW_AND_ABOVE", "MEDIUM_AND_ABOVE", "HIGH")
"""Strictest first. Unspecified is read as the API's default, the strictest."""


class _Google(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    pass


class RaiFilter(_Google, frozen=True, kw_only=True):
    """One of Google's responsible-AI filters."""

    filter_type: Literal["SEXUALLY_EXPLICIT", "HATE_SPEECH", "HARASSMENT", "DANGEROUS"]
    confidence_level: Level = "LOW_AND_ABOVE"


class RaiSettings(_Google, frozen=True, kw_only=True):
    """`raiSettings`."""

    rai_filters: tuple[RaiFilter, ...] = ()


class Injection(_Google, frozen=True, kw_only=True):
    """`piAndJailbreakFilterSettings`."""

    filter_enforcement: Enforcement = "DISABLED"
    confidence_level: Level = "LOW_AND_ABOVE"


class Uris(_Google, frozen=True, kw_only=True):
    """`maliciousUriFilterSettings`."""

    filter_enforcement: Enforcement = "DISABLED"


class AdvancedSdp(_Google, frozen=True, kw_only=True):
    """Templates of Google's Sensitive Data Protection."""

    inspect_template: str = ""
    deidentify_template: str = ""


class Sdp(_Google, frozen=True, kw_only=True):
    """`sdpSettings`."""

    basic_config: Uris | None = None
    advanced_config: AdvancedSdp | None = None


class Filters(_Google, frozen=True, kw_only=True):
    """`filterConfig`."""

    rai_settings: RaiSettings = RaiSettings()
    pi_and_jailbreak_filter_settings: Injection = Injection()
    malicious_uri_filter_settings: Uris = Uris()
    sdp_settings: Sdp = Sdp()


Status = Annotated[int, msgspec.Meta(ge=400, le=599)]


class Metadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`templateMetadata`; its logging switches are Google's own."""

    enforcement_type: Literal["ENFORCEMENT_TYPE_UNSPECIFIED", "INSPECT_ONLY", "INSPECT_AND_BLOCK"] = (
        "INSPECT_AND_BLOCK"
    )
    ignore_partial_invocation_failures: bool = False
    custom_prompt_safety_error_code: Status = 403
    custom_prompt_safety_error_message: str = ""
    custom_llm_response_safety_error_code: Status = 403
    custom_llm_response_safety_error_message: str = ""


class Template(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A template as the API returns it; its name, labels and times say nothing here."""

    filter_config: Filters
    template_metadata: Metadata = Metadata()


class Floor(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A floor setting: no template may be laxer."""

    filter_config: Filters
    enable_floor_setting_enforcement: bool = False


class ModelArmorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Policies in Model Armor's words. Each model of `settings` gets a policy `model-armor:MODEL`."""

    settings: str
    """The extension's `model_armor_settings`, a JSON string; the model `default` stands for all others."""
    templates: dict[str, Template]
    """By full name or by the last part of it."""
    floor: Floor | None = None
    provider: str = ""
    """Judges what no rule can: responsible AI, malicious addresses, advanced SDP. Usually of type `model-armor`."""
    error_type: Literal["json", "plain_text"] = "json"
