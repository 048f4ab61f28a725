"""Changing single values of a JSON document and no other byte: key order, spacing, escapes and numbers stay."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from services.openai.texts import Json, KeyOf, Path, Step

_TOKEN = re.compile(rb'[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^ \t\r\n{}\[\],:"]+)', re.DOTALL)
_OPENERS, _CLOSERS = (b"{", b"["), (b"}", b"]")


def replace_values(document: bytes, values: Mapping[Path, Json]) -> bytes:
    """Return `document` with the values at the given paths replaced. No path may lie inside another.

    `document` is JSON that `texts.decode` accepts.
    """
    spans = sorted((span, path) for path, span in locate(document, values).items())
    out, cursor = bytearray(), 0
    for (start, end), path in spans:
        out += document[cursor:start] + encode_json(values[path])
        cursor = end
    return bytes(out + document[cursor:])


def encode_json(value: Json) -> bytes:
    """Return `value` as JSON in UTF-8; half a surrogate pair, which UTF-8 cannot carry, stays an escape."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def locate(document: bytes, wanted: Mapping[Path, object]) -> dict[Path, tuple[int, int]]:
    """Return where the values at the `wanted` paths stand, as byte offsets. A missing path raises `LookupError`."""
    locator = _Locator(document, wanted)
    found = locator.run()
    if len(found) != len(wanted):
        raise LookupError(f"not in the document: {sorted(map(str, wanted.keys() - found.keys()))}")
    return found


@dataclass(slots=True)
class _Frame:
    """An object or list that is open. `step` names the value that comes next; None: a key comes next."""

    is_object: bool
    start: int
    step: str | int | None


class _Locator:
    def __init__(self, document: bytes, wanted: Mapping[Path, object]) -> None:
        self._document = document
        self._wanted = wanted
        self._frames: list[_Frame] = []
        self._found: dict[Path, tuple[int, int]] = {}

    def run(self) -> dict[Path, tuple[int, int]]:
        for token in _TOKEN.finditer(self._document):
            self._token(token[1], token.start(1), token.end(1))
            if len(self._found) == len(self._wanted):
                break
        return self._found

    def _token(self, token: bytes, start: int, end: int) -> None:
        frame = self._frames[-1] if self._frames else None
        if token in _OPENERS:
            is_object = token == b"{"
            self._frames.append(_Frame(is_object, start, None if is_object else 0))
        elif token in _CLOSERS:
            self._keep(self._path(self._frames[:-1]), self._frames.pop().start, end)
        elif token == b",":
            self._comma(frame)
        elif frame is not None and frame.is_object and frame.step is None:
            name = str(json.loads(token))
            self._keep((*self._path(self._frames[:-1]), KeyOf(name)), start, end)
            frame.step = name
        elif token != b":":
            self._keep(self._path(self._frames), start, end)

    def _comma(self, frame: _Frame | None) -> None:
        if frame is not None:
            frame.step = frame.step + 1 if isinstance(frame.step, int) else None

    def _path(self, frames: list[_Frame]) -> Path:
        steps: list[Step] = [frame.step for frame in frames if frame.step is not None]
        return tuple(steps)

    def _keep(self, path: Path, start: int, end: int) -> None:
        if path in self._wanted:
            self._found[path] = (start, end)
