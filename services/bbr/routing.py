"""From a request to its model, and from the model to what goes on: headers, digest, rewritten body and path. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from services.bbr.plugins import RequestChange, RequestView
from services.bbr.records import Refusal
from services.bbr.refusals import encoded_body, hidden_body, no_model, not_allowed, unreadable
from services.bbr.rules import Resolution, Rules
from services.bbr.sources import BODY, PATH, first_named
from services.extproc.decisions import Forward
from services.extproc.events import Metadata, Request
from services.openai.dialects import Dialect, PathModel, path_model
from services.openai.digest import KEY, NAMESPACE, digest_of, encode
from services.openai.errors import PeekError, Reason
from services.openai.peek import Peek, peek, peek_unknown, rewrite
from services.openai.rewrites import sticky_key
from services.tokens.source import Ask

MODEL_HEADER = "x-gateway-model-name"
"""The model that the server is asked for, adapters included."""
BASE_MODEL_HEADER = "x-gateway-base-model-name"
"""The base model: what routes match."""
CLIENT_MODEL_HEADER = "x-gateway-client-model-name"
"""The client's name for the model, where the answer must get it back: routes that match it let BBR see the answer."""
OWN_HEADERS = (MODEL_HEADER, BASE_MODEL_HEADER, CLIENT_MODEL_HEADER)

ASKED, TARGET = "model_asked", "model_target"
"""Keys in the digest's metadata namespace, set with `CLIENT_MODEL_HEADER`: both names of the model."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a request says of its model, wherever it says it."""

    request: Request
    dialect: Dialect
    seen: Peek
    """Of the body. In a body of no known dialect only the model is looked for, and nothing is demanded."""
    path: PathModel | None
    asked: str
    """What the rules are asked: the route's own word, the model of the first source that names one, or the default."""
    client: str
    """The client's name for it; empty where it has none."""


@dataclass(frozen=True, slots=True)
class Routed:
    """A request whose model is decided."""

    reading: Reading
    way: Resolution
    rules: Rules
    chance: random.Random
    set_headers: tuple[tuple[str, str], ...] = ()
    """By plugins."""
    remove_headers: tuple[str, ...] = ()

    @property
    def rewritten(self) -> bool:
        """The server is asked for another name than the client wrote."""
        return self.way.target != self.reading.client

    def view(self) -> RequestView:
        """Return what a plugin may see."""
        reading = self.reading
        return RequestView(reading.request, reading.dialect, reading.client, self.way.target, self.way.base)

    def changed(self, change: RequestChange) -> Routed:
        """Return what a plugin made of it."""
        reading, way = self.reading, self.way
        if change.body is not None:
            request = replace(reading.request, body=change.body)
            seen = _peek(change.body, request, reading.dialect, model_optional=True)
            reading = replace(reading, request=request, seen=seen)
        if change.model:
            way = resolve(change.model, reading, self.rules, self.chance)
        return replace(
            self,
            reading=reading,
            way=way,
            set_headers=self.set_headers + change.set_headers,
            remove_headers=self.remove_headers + change.remove_headers,
        )


def read(request: Request, dialect: Dialect, rules: Rules, route_model: str = "") -> Reading | None:
    """Find the model that `request` asks for, `route_model` first; None when nothing about it is for a model."""
    path = path_model(request.method, request.headers.get(":path") or "") if PATH in rules.sources else None
    in_path = path.model if path else ""
    outside = first_named(rules.sources, request.headers, body="", path=in_path)
    if dialect is not Dialect.OTHER:
        optional = bool(route_model or outside or rules.default_model) or BODY not in rules.sources
        seen = _peek(_readable_body(request), request, dialect, model_optional=optional)
    elif outside:
        seen = _peek_unknown(request) if path else peek_unknown(b"")
    else:
        return None
    client = first_named(rules.sources, request.headers, body=seen.model, path=in_path)
    asked = route_model or client or rules.default_model
    if not asked:
        raise unreadable(PeekError(Reason.FIELD_MISSING, "the request names no model", param="model"))
    return Reading(request, dialect, seen, path, asked, client)


def permitted(reading: Reading, rules: Rules) -> None:
    """Refuse a model that whoever asks may not use."""
    access = rules.access
    if not access.permits(consumer(reading.request, rules), reading.asked):
        asked = reading.asked
        raise not_allowed(asked) if access.forbids else no_model(asked, Refusal.MODEL_NOT_ALLOWED)


def consumer(request: Request, rules: Rules) -> str:
    """Return the listed consumer that sent `request`, or the empty string."""
    header = rules.access.consumer_header
    return rules.access.group(request.headers.all(header)) if header else ""


def resolve(model: str, reading: Reading, rules: Rules, chance: random.Random) -> Resolution:
    """Return the way of `model`; refuse one that nothing knows."""
    way = rules.resolve(model, sticky_key(reading.request.headers.get, reading.seen.user), chance)
    if way is None:
        raise no_model(model)
    return way


def forward(routed: Routed) -> Forward:
    """Return what goes on: wherever the request names a model, it now names the target."""
    reading, way = routed.reading, routed.way
    renamed = bool(reading.client) and routed.rewritten and routed.rules.answers_named_as_asked
    return Forward(
        set_headers=(
            (MODEL_HEADER, way.target),
            (BASE_MODEL_HEADER, way.base),
            *_marks(routed, renamed=renamed),
        ),
        remove_headers=(*routed.remove_headers, *_forged(reading.request, renamed=renamed)),
        metadata=_metadata(reading, way, renamed=renamed),
        body=_body(reading, way.target),
        reroute=True,
    )


def token_ask(routed: Routed) -> Ask:
    """Return what has to be known to find the prompt's tokens."""
    reading, way = routed.reading, routed.way
    return Ask(
        body=reading.request.body or b"",
        dialect=reading.dialect,
        seen=reading.seen,
        digest=digest_of(reading.seen, way.target),
        adapter="" if way.target == way.base else way.target,
    )


def _marks(routed: Routed, *, renamed: bool) -> tuple[tuple[str, str], ...]:
    path, target = routed.reading.path, routed.way.target
    marks = [*routed.set_headers]
    if renamed:
        marks.append((CLIENT_MODEL_HEADER, routed.reading.client))
    if path is not None and path.model != target:
        marks.append((":path", path.renamed(routed.reading.request.headers.get(":path") or "", target)))
    return tuple(marks)


def _forged(request: Request, *, renamed: bool) -> tuple[str, ...]:
    return (CLIENT_MODEL_HEADER,) if not renamed and CLIENT_MODEL_HEADER in request.headers else ()


def _metadata(reading: Reading, way: Resolution, *, renamed: bool) -> Metadata:
    values = {KEY: encode(digest_of(reading.seen, way.target))}
    names = {ASKED: reading.client, TARGET: way.target} if renamed else {}
    return {NAMESPACE: values | names}


def _body(reading: Reading, target: str) -> bytes | None:
    """Return the body with `target` as its model, None where nothing has to change."""
    seen, body = reading.seen, reading.request.body
    unnamed = reading.dialect is Dialect.OTHER and not seen.model_field
    if body is None or unnamed or seen.model == target:
        return None
    return rewrite(body, seen, target)


def _peek(body: bytes, request: Request, dialect: Dialect, *, model_optional: bool) -> Peek:
    content_type = request.headers.get("content-type") or ""
    try:
        return peek(body, dialect, content_type, model_optional=model_optional)
    except PeekError as error:
        raise unreadable(error) from error


def _peek_unknown(request: Request) -> Peek:
    try:
        return peek_unknown(_readable_body(request) if request.body else b"")
    except PeekError as error:
        raise unreadable(error) from error


def _readable_body(request: Request) -> bytes:
    if request.body is None:
        raise hidden_body()
    encoding = request.headers.get("content-encoding") or "identity"
    if encoding.lower() != "identity":
        raise encoded_body(encoding)
    return request.body
