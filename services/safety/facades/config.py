"""The facades' part of the configuration."""

from __future__ import annotations

import msgspec

from services.extproc.config import Port
from services.safety.providers.settings import Auth


class FacadesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the facades are served."""

    host: str = "127.0.0.1"
    port: Port
    auth: Auth | None = None
    """The token that callers send as `authorization: Bearer …` or `x-api-key`; without it anybody may ask."""
    body_bytes: int = 4 * 1024 * 1024
