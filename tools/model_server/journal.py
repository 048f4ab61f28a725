"""What reached the server, for tests to ask: counts, and the last requests with headers and body digest."""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from dataclasses import dataclass

REMEMBERED = 512
"""Requests kept; older ones are forgotten."""


@dataclass(slots=True)
class Entry:
    """One request to the API."""

    id: str
    method: str
    path: str
    raw_headers: tuple[tuple[bytes, bytes], ...]
    body_length: int
    body_sha256: str
    model: str = ""

    def as_json(self) -> dict[str, object]:
        """Return the entry with its headers in order, repeated ones included."""
        return {
            "id": self.id,
            "method": self.method,
            "path": self.path,
            "model": self.model,
            "headers": [
                [name.decode("latin-1"), value.decode("latin-1")] for name, value in self.raw_headers
            ],
            "body_length": self.body_length,
            "body_sha256": self.body_sha256,
        }


class Journal:
    """The last requests, oldest first, by `x-request-id`; a repeated id keeps the newest."""

    def __init__(self) -> None:
        self.requests = Counter[str]()
        """By path."""
        self.models = Counter[str]()
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._unnamed = 0

    def add(
        self, request_id: str, method: str, path: str, headers: tuple[tuple[bytes, bytes], ...], body: bytes
    ) -> Entry:
        """Remember a request; one without an id gets a number."""
        if not request_id:
            self._unnamed += 1
            request_id = f"unnamed-{self._unnamed}"
        entry = Entry(request_id, method, path, headers, len(body), hashlib.sha256(body).hexdigest())
        self.requests[path] += 1
        self._entries.pop(request_id, None)
        self._entries[request_id] = entry
        if len(self._entries) > REMEMBERED:
            self._entries.popitem(last=False)
        return entry

    def accepted(self, entry: Entry, model: str) -> None:
        """Note the model of a request that could be read."""
        entry.model = model
        self.models[model] += 1

    def entries(self) -> list[Entry]:
        """Return the requests that are remembered, oldest first."""
        return list(self._entries.values())

    def clear(self) -> None:
        """Forget everything."""
        self.requests.clear()
        self.models.clear()
        self._entries.clear()
