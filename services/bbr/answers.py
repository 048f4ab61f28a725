"""The answer to a rewritten request gets the client's name for the model back, and passes the response plugins.

In our gateway BBR's filter does not see answers: it learns of a rewrite too late to ask for them. A second filter does,
on the same port, where a route enables it; its streams begin with the answer, and metadata brings the names.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.bbr.chain import Chain
from services.bbr.plugins import AnswerChange, AnswerView, BodyEdit
from services.bbr.routing import ASKED, TARGET
from services.extproc.decisions import BodyDecision, Emit, Forward, HeadDecision, Hold, Reject, Stream
from services.extproc.events import Metadata, ResponseChunk, ResponseHead
from services.extproc.exchange import Exchange
from services.openai.answer_model import EVENTS, media_type, renamer
from services.openai.digest import NAMESPACE


class AnswerExchange(Exchange):
    """The answer's half of an exchange. What is neither renamed nor of interest to a plugin passes unseen."""

    def __init__(self, chain: Chain | None, *, limit: int) -> None:
        self._chain = chain
        self._limit = limit
        self.names: Metadata = {}
        """What the request's half gave out, where one filter sends both; else it comes back as metadata."""
        self._edits: list[BodyEdit] = []
        self._change = Forward()

    async def response_head(self, head: ResponseHead) -> HeadDecision:
        """Let the answer pass, stream it through the edits, or hold it for them."""
        names = self.names or head.metadata
        view = AnswerView(head, _name(names, ASKED), _name(names, TARGET))
        changes = self._chain.response(view) if self._chain else []
        self._change = _heads(changes)
        get = head.headers.get
        kind = media_type(get("content-type") or "", get("content-encoding") or "")
        named = renamer(kind, view.asked) if view.asked else None
        self._edits = [*([named] if named else []), *(each.body for each in changes if each.body)]
        if head.end or not (self._edits and head.body_seen):
            return self._change
        if kind == EVENTS:
            return Stream(self._change)
        return Hold(self._limit) if head.can_hold else self._change

    async def response_chunk(self, chunk: ResponseChunk) -> Emit:
        """Pass a piece of a stream through the edits."""
        return Emit(self._edited(chunk.data, end=chunk.end))

    async def response_body(self, body: bytes) -> BodyDecision:
        """Pass a whole body through the edits."""
        edited = self._edited(body, end=True)
        change = self._change
        new = None if edited == body else edited
        return Forward(change.set_headers, change.remove_headers, body=new)

    async def response_overflow(self, held: bytes) -> Forward | Reject:  # noqa: ARG002 - it passes as it is
        """Let a body pass that is too long to hold: with the server's name rather than not at all."""
        return self._change

    def _edited(self, data: bytes, *, end: bool) -> bytes:
        for edit in self._edits:
            data = edit.feed(data, end=end)
        return data


def _heads(changes: Iterable[AnswerChange]) -> Forward:
    return Forward(
        set_headers=tuple(header for change in changes for header in change.set_headers),
        remove_headers=tuple(name for change in changes for name in change.remove_headers),
    )


def _name(metadata: Metadata, key: str) -> str:
    value = metadata.get(NAMESPACE, {}).get(key)
    return value if isinstance(value, str) else ""
