"""Rules in YAML: what to find, how to prove it, and examples of both. The operator's blocklists become rules too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from services.extproc.config import ConfigError
from services.extproc.config import load as load_yaml
from services.safety.verdict import Confidence

BUILT_IN = Path(__file__).parent.parent / "rules"

MAX_WORDS = (
    3000  # of a blocklist: measured, 3,000 compile in 2 s; 10,000 took 22 s, and then 1.5 ms for each chunk
)


class RuleError(ConfigError):
    """A rule is not what it must be; the message names it."""


Sample = str | tuple[str, ...]
"""An example text. In pieces where the whole would look like a real secret to scanners of this repository."""


class Examples(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a rule must find, and what only looks like it."""

    hit: tuple[Sample, ...]
    miss: tuple[Sample, ...]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One kind of thing to find."""

    id: str
    description: str
    category: str
    pattern: str
    """In the subset of `patterns`."""
    word_start: bool = False
    """A match begins where a word does: after a sign, an underscore or an escape such as `\\n` in tool arguments.
    Without it, a stream must hold the last letter of every word that ends as a match may begin."""
    keywords: tuple[str, ...] = ()
    """One of them stands in every match, in any case. Without one the pattern runs on every text."""
    validator: str | None = None
    ignore_case: bool = False
    confidence: Confidence = Confidence.HIGH
    max_length: int | None
    """Characters of the longest match; null says that there is none."""
    examples: Examples | None = None


WORD_START = r"(?:\\[nrt]|_|\b)"
"""An escape in front of a match becomes part of it: `\\n` looks like the letter n, so there is no word boundary."""


def load(paths: Iterable[Path]) -> tuple[Rule, ...]:
    """Read rules from YAML files; raise `ConfigError` that names the file."""
    rules: list[Rule] = []
    for path in paths:
        rules += load_yaml(path, list[Rule])
    doubles = {rule.id for rule in rules if sum(other.id == rule.id for other in rules) > 1}
    if doubles:
        raise RuleError(f"defined twice: {', '.join(sorted(doubles))}")
    return tuple(rules)


def built_in() -> tuple[Rule, ...]:
    """Return the rules that come with the service."""
    return load(sorted(BUILT_IN.glob("*.yaml")))


def blocklist(name: str, words: Sequence[str]) -> Rule:
    """Return the rule that finds any of `words` as whole words, in any case, with any spaces between them."""
    if len(words) > MAX_WORDS:
        raise RuleError(f"blocklist {name!r} has {len(words)} words, expected at most {MAX_WORDS}")
    if not words or not all(word.strip() for word in words):
        raise RuleError(f"blocklist {name!r} has no words or an empty one")
    phrases = [word.split() for word in sorted(words, key=len, reverse=True)]
    options = "|".join(_phrase(parts) for parts in phrases)
    return Rule(
        id=name,
        description=f"the operator's list {name!r}",
        category="blocklist",
        pattern=f"(?:{options})",
        keywords=tuple({parts[0] for parts in phrases}),
        ignore_case=True,
        max_length=max(sum(map(len, parts)) + _SPACES * (len(parts) - 1) for parts in phrases),
    )


_SPACES = 8  # between the words of a phrase; more is a trick that the canonical view is for


def _phrase(parts: Sequence[str]) -> str:
    body = rf"\s{{1,{_SPACES}}}".join("".join(_literal(char) for char in part) for part in parts)
    first, last = parts[0][0], parts[-1][-1]
    return (r"\b" if _is_word(first) else "") + body + (r"\b" if _is_word(last) else "")


def _literal(char: str) -> str:
    return char if char.isalnum() or not char.isascii() else "\\" + char


def _is_word(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char == "_")
