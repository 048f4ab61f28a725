"""Whether a text holds anything at all, for all checks of a side at once. A text that was clean is not read again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

from services.safety.checks.base import Check

KEPT = 65_536  # clean texts remembered: 8 MB of digests and links
_SHORT = 1024  # characters; up to here reading it again costs no more than its digest
_DIGEST = 20  # bytes: nobody finds two texts with one digest


class Screen:
    """Belongs to one side of one policy: another policy, or the same after a reload, begins with none.

    So each message of a growing conversation is judged once. Only keyed hashes of clean texts are kept.
    """

    def __init__(
        self, covers: Sequence[Check], checks: Sequence[Check], *, key: bytes, kept: int = KEPT
    ) -> None:
        self.covers = covers
        """The side's own checks, which `checks` stand for."""
        self._checks = checks
        self._key = key[:64]
        self._kept = kept
        self._clean: OrderedDict[bytes, None] = OrderedDict()

    def is_clean(self, text: str) -> bool:
        """Whether no check finds anything in the whole `text`."""
        if len(text) <= _SHORT:
            return self._scan(text)
        data = text.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(data, digest_size=_DIGEST, key=self._key).digest()
        if digest in self._clean:
            self._clean.move_to_end(digest)
            return True
        if not self._scan(text):
            return False
        self._clean[digest] = None
        if len(self._clean) > self._kept:
            self._clean.popitem(last=False)
        return True

    def _scan(self, text: str) -> bool:
        return not any(check.scan(text) for check in self._checks)
