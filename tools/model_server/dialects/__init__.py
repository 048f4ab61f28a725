"""The APIs that the server speaks: each module reads its request body and writes its answers."""

from __future__ import annotations

from tools.model_server.dialects import chat, completions, messages, responses
from tools.model_server.dialects.generation import Dialect

DIALECTS: tuple[Dialect, ...] = (chat.DIALECT, completions.DIALECT, responses.DIALECT, messages.DIALECT)
"""Those that generate text."""
