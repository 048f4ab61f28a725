"""How guard models are asked and what they answer. Each after its model card. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Protocol

import msgspec

from services.safety.providers.base import ProviderVerdict
from services.safety.providers.pieces import Piece
from services.safety.providers.shape import CLEAN, Malformed, decode, flagged
from services.safety.verdict import Confidence

_UNSEEN = "(not shown)"
"""Stands for the prompt of an answer: the chat templates want a user's turn first."""

LLAMA_GUARD = {
    "S1": "violent-crimes",
    "S2": "non-violent-crimes",
    "S3": "sex-related-crimes",
    "S4": "child-exploitation",
    "S5": "defamation",
    "S6": "specialized-advice",
    "S7": "privacy",
    "S8": "intellectual-property",
    "S9": "indiscriminate-weapons",
    "S10": "hate",
    "S11": "self-harm",
    "S12": "sexual-content",
    "S13": "elections",
    "S14": "code-interpreter-abuse",
}
"""The hazards of Llama Guard 3 and 4."""


class Format(Protocol):
    """One family of guard models."""

    def request(self, text: str, *, answer: bool) -> Mapping[str, object]:
        """Return the fields of the completion that ask about `text`, a user's or with `answer` an assistant's."""

    def verdict(self, text: str, first: Mapping[str, float], piece: Piece) -> ProviderVerdict:
        """Read an answer; `first` has the first token's alternatives with their log probabilities."""


def _turns(text: str, *, answer: bool) -> list[dict[str, str]]:
    if answer:
        return [{"role": "user", "content": _UNSEEN}, {"role": "assistant", "content": text}]
    return [{"role": "user", "content": text}]


class LlamaGuard:
    """Llama Guard 3 and 4: `safe`, or `unsafe` and a line of hazard codes."""

    def request(self, text: str, *, answer: bool) -> Mapping[str, object]:
        """Leave the hazards to the chat template."""
        return {"messages": _turns(text, answer=answer), "max_tokens": 32}

    def verdict(self, text: str, first: Mapping[str, float], piece: Piece) -> ProviderVerdict:  # noqa: ARG002 - the interface
        """Anything but the two words is no answer."""
        word, _, codes = text.strip().partition("\n")
        if word.strip() == "safe":
            return CLEAN
        if word.strip() != "unsafe":
            raise Malformed("neither safe nor unsafe")
        names = [LLAMA_GUARD.get(code.strip(), code) for code in codes.split(",") if code.strip()]
        return flagged("llama-guard", names or ["unsafe"], piece)


class Qwen3Guard:
    """Qwen3Guard-Gen: `Safety:` of three grades, `Categories:`, and `Refusal:` on answers."""

    def __init__(self, controversial: bool) -> None:
        self._controversial = controversial

    def request(self, text: str, *, answer: bool) -> Mapping[str, object]:
        """Leave the categories to the chat template."""
        return {"messages": _turns(text, answer=answer), "max_tokens": 128}

    def verdict(self, text: str, first: Mapping[str, float], piece: Piece) -> ProviderVerdict:  # noqa: ARG002
        """Take the middle grade for a finding of medium confidence, where it counts."""
        grade = re.search(r"Safety:\s*(Safe|Unsafe|Controversial)", text)
        if grade is None:
            raise Malformed("no grade")
        if grade[1] == "Safe" or (grade[1] == "Controversial" and not self._controversial):
            return CLEAN
        line = re.search(r"Categories:[ \t]*(.*)", text)
        names = [name.strip() for name in line[1].split(",")] if line else []
        sure = Confidence.HIGH if grade[1] == "Unsafe" else Confidence.MEDIUM
        names = [name for name in names if name and name != "None"]
        return flagged("qwen3guard", names or ["unsafe"], piece, sure)


class ShieldGemma:
    """ShieldGemma: the probability of `Yes` against `No` on the first token, for one guideline."""

    def __init__(self, policy: str, threshold: float) -> None:
        self._policy = policy
        self._threshold = threshold

    def request(self, text: str, *, answer: bool) -> Mapping[str, object]:
        """Hand the guideline to the chat template."""
        return {
            "messages": _turns(text, answer=answer),
            "chat_template_kwargs": {"guideline": self._policy},
            "max_tokens": 1,
            "logprobs": True,
            "top_logprobs": 20,
        }

    def verdict(self, text: str, first: Mapping[str, float], piece: Piece) -> ProviderVerdict:  # noqa: ARG002
        """Take a token that is not among the likeliest for one of probability 0."""
        yes, no = (math.exp(first.get(word, -math.inf)) for word in ("Yes", "No"))
        if not yes + no:
            raise Malformed("neither Yes nor No")
        return flagged("shieldgemma", ["guideline"] if yes / (yes + no) >= self._threshold else [], piece)


class _Judgement(msgspec.Struct):
    violation: int
    category: str = ""


class GptOssSafeguard:
    """gpt-oss-safeguard: the policy is the system message, and says the form of the answer."""

    _FORM = (
        '\n\nAnswer with one JSON object and nothing else: {"violation": 0 or 1, "category": "short name"}'
    )

    def __init__(self, policy: str) -> None:
        self._policy = policy

    def request(self, text: str, *, answer: bool) -> Mapping[str, object]:  # noqa: ARG002
        """Show the text as the user's turn, whoever said it."""
        return {
            "messages": [
                {"role": "system", "content": self._policy + self._FORM},
                {"role": "user", "content": text},
            ],
            "max_tokens": 1024,  # it reasons first
        }

    def verdict(self, text: str, first: Mapping[str, float], piece: Piece) -> ProviderVerdict:  # noqa: ARG002
        """JSON, as told."""
        judged = decode(text.strip().encode("utf-8", "replace"), _Judgement)
        return flagged("gpt-oss-safeguard", [judged.category or "policy"] if judged.violation else [], piece)
