"""What stands in place of a redacted match: a mask, a mask with a hash, or a placeholder that the answer gives back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from services.safety.checks.base import Scan
from services.safety.policy import Redaction, Side
from services.safety.verdict import Finding

RESTORED = "restored"
"""The category of a placeholder in an answer: no finding to report."""

_DIGEST = 4  # bytes: enough to tell values of one conversation apart, too few to be a fingerprint elsewhere


class Vault:
    """The placeholders of one exchange: a check that finds them in its answer, and what they stand for.

    `nonce` makes them unlike anything in the prompt; it is asked once, for the first. A value that comes twice has
    one placeholder.
    """

    def __init__(self, nonce: Callable[[], str]) -> None:
        self._draw = nonce
        self._nonce = ""
        self._hidden: dict[str, str] = {}  # placeholder → value
        self._names: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._hidden)

    def hide(self, rule: str, value: str) -> str:
        """Return the placeholder of `value`."""
        if not self._names:
            self._nonce = self._draw()
        name = self._names.setdefault(value, f"[{rule.upper()}-{len(self._names) + 1}-{self._nonce}]")
        self._hidden[name] = value
        return name

    def reveal(self, name: str) -> str:
        """Return what a placeholder stands for."""
        return self._hidden[name]

    @property
    def max_length(self) -> int:
        """The longest placeholder."""
        return max(map(len, self._hidden), default=0)

    def scan(self, text: str) -> Sequence[Finding]:
        """Return the placeholders in `text`."""
        found = []
        for name in self._hidden:
            at = text.find(name)
            while at >= 0:
                found.append(Finding(name, at, at + len(name), RESTORED))
                at = text.find(name, at + len(name))
        return found

    def scanner(self) -> _Scanner:
        """Return a fresh state for one text of a stream."""
        return _Scanner(self)

    def live_from(self, text: str) -> int:
        """Return where a placeholder may begin that `text` does not end."""
        at = text.rfind("[")
        tail = text[at:]
        return at if at >= 0 and any(name.startswith(tail) for name in self._hidden) else len(text)


class _Scanner:
    """Holds from the last bracket on, if a placeholder begins so."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._text = ""
        self._base = 0

    def feed(self, text: str, *, final: bool = False) -> Scan:
        """Take the next piece."""
        self._text += text
        live = len(self._text) if final else self._vault.live_from(self._text)
        found = [f for f in self._vault.scan(self._text) if f.end <= live or final]
        base, self._base = self._base, self._base + live
        self._text = self._text[live:]
        return Scan([Finding(f.rule, f.start + base, f.end + base, RESTORED) for f in found], self._base)


class Masks:
    """Writes what a side puts in place of its findings. `key` keys the hashes; without a vault nothing is reversible."""

    __slots__ = ("_key", "_side", "_vault")

    def __init__(self, side: Side, key: bytes = b"", vault: Vault | None = None) -> None:
        self._side = side
        self._key = key
        self._vault = vault

    def of(self, finding: Finding, role: str, value: str) -> str:
        """Return what stands in place of `value`, which `finding` found in a text of `role`."""
        if finding.category == RESTORED and self._vault is not None:
            return self._vault.reveal(finding.rule)
        reaction = self._side.reaction(finding, role)
        redaction = Redaction.MASK if reaction is None else reaction.redaction
        if redaction is Redaction.PLACEHOLDER and self._vault is not None:
            return self._vault.hide(finding.rule, value)
        if redaction is Redaction.MASK:
            return self._side.mask.format(rule=finding.rule)
        digest = hashlib.blake2b(
            value.encode("utf-8", "surrogatepass"), digest_size=_DIGEST, key=self._key[:64]
        )
        return self._side.mask.format(rule=f"{finding.rule}:{digest.hexdigest()}")
