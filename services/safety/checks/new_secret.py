"""Check `new-secret`: a secret in the answer that was not in the prompt. The model had it from elsewhere.

    checks:
      leaked: {type: new-secret}

What a user has said may come back to that user; a key that nobody mentioned comes from a tool, a file or training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.openai.texts import Text
from services.safety.checks.base import Check
from services.safety.checks.proved import Proved
from services.safety.checks.rules import built_in
from services.safety.checks.ruleset import RuleSet

NAME = "new-secret"


class NewSecret:
    """Binds the rules of category `secret` to a prompt."""

    def __init__(self, parameters: Mapping[str, object]) -> None:
        if parameters:
            raise ValueError("expected no parameters")
        self._rules = RuleSet([rule for rule in built_in() if rule.category == "secret"])

    def bind(self, prompt: Sequence[Text]) -> Check:
        """Return the check of the answer to `prompt`."""
        said = [text.value for text in prompt if text.scannable]
        return Proved(self._rules, lambda found: not any(found.strip() in text for text in said), NAME)
