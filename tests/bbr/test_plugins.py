"""The chain of plugins: what they see, what they may do, and what their failures cost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest

from services.bbr.config import Config
from services.bbr.plugins import (
    AnswerChange,
    AnswerView,
    BaseModelToHeader,
    BodyFieldToHeader,
    OnError,
    RequestChange,
    RequestView,
)
from services.bbr.records import Point, Refusal
from services.bbr.registry import PluginError, build, declared
from services.bbr.rules import Rules
from services.extproc.config import ConfigError, parse
from services.extproc.decisions import Forward
from services.extproc.errors import Internal
from services.extproc.script import Script
from services.openai.digest import decode
from tests.bbr.world import ALIASES, MODELS, Notes, asking, bbr, chat, link


@dataclass
class Says:
    """A request plugin that always wants the same."""

    change: RequestChange | None = None
    seen: RequestView | None = None

    def request(self, view: RequestView) -> RequestChange | None:
        self.seen = view
        return self.change


class Fails:
    """A plugin with a bug."""

    def request(self, view: RequestView) -> None:
        raise KeyError("bug")

    def response(self, view: AnswerView) -> None:
        raise KeyError("bug")


def forwarded(*plugins, request=None, notes: Notes | None = None) -> Forward:
    decision = bbr(plugins=plugins, notes=notes).decide(request or asking(chat("l", seed=7, user="ann")))
    assert isinstance(decision, Forward)
    return decision


def test_the_references_plugins_set_the_same_headers_as_bbr_itself():
    """Its default chain, written out, changes nothing."""
    chain = (BodyFieldToHeader("model", "X-Gateway-Model-Name"), BaseModelToHeader())
    assert dict(forwarded(*chain).set_headers) == dict(forwarded(Says()).set_headers)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("user", "ann"),
        ("seed", "7"),
        ("model", "llama"),
        ("messages", None),
        ("nothing", None),
        ("bad", None),
    ],
)
def test_a_field_of_the_body_becomes_a_header(field, value):
    """A number as it is written; nothing that a header cannot hold; for the model, the one that is routed to."""
    body = chat("l", seed=7, user="ann", bad="a\nb", messages=[{"role": "user", "content": "hi\n"}])
    body = body.replace(b'"messages": [', b'"messages": [\n')
    headers = dict(forwarded(BodyFieldToHeader(field, "X-Field"), request=asking(body)).set_headers)
    assert headers.get("x-field") == value


def test_a_forms_field_becomes_a_header():
    """Uploads have fields too."""
    form = (
        b'--b\r\nContent-Disposition: form-data; name="language"\r\n\r\nde\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n\xff\r\n'
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nl\r\n--b--\r\n'
    )
    request = asking(form, "/v1/audio/transcriptions", content_type="multipart/form-data; boundary=b")
    assert ("x-language", "de") in forwarded(
        BodyFieldToHeader("language", "x-language"), request=request
    ).set_headers


def test_a_plugin_sees_what_was_decided():
    """And the request as the client sent it."""
    plugin = Says()
    request = asking(chat("f"))
    forwarded(plugin, request=request)
    assert plugin.seen is not None
    assert plugin.seen.request is request
    assert (plugin.seen.asked, plugin.seen.target, plugin.seen.base) == ("f", "food", "llama")


def test_plugins_run_in_order_and_each_sees_the_ones_before():
    """The last word counts."""
    second = Says(RequestChange(set_headers=(("x-a", "2"),), remove_headers=("x-b",)))
    body = chat("food", added=True)
    decision = forwarded(Says(RequestChange(set_headers=(("x-a", "1"),), body=body)), second)
    assert second.seen is not None
    assert second.seen.field("added") == "true"
    assert dict(decision.set_headers)["x-a"] == "2"
    assert decision.remove_headers == ("x-b",)


def test_a_plugin_can_choose_the_model():
    """By a name that the rules resolve; body, headers and digest follow, and the client still sees its own."""
    decision = forwarded(Says(RequestChange(model="f")), request=asking(chat("chatbot")))
    assert dict(decision.set_headers) == {
        "x-gateway-model-name": "food",
        "x-gateway-base-model-name": "llama",
        "x-gateway-client-model-name": "chatbot",
    }
    assert decision.body is not None
    assert json.loads(decision.body)["model"] == "food"
    assert decode(str(decision.metadata["gw.bbr"]["digest"])).model == "food"


def test_a_plugins_body_is_routed_and_digested_as_it_is_now():
    """With the decided model in it."""
    decision = forwarded(Says(RequestChange(body=chat("whatever", max_tokens=5))), request=asking(chat("l")))
    assert decision.body == chat("llama", max_tokens=5)
    assert decode(str(decision.metadata["gw.bbr"]["digest"])).max_tokens == 5


@pytest.mark.parametrize(
    "plugin",
    [Fails(), Says(RequestChange(model="nobody")), Says(RequestChange(body=b"{"))],
    ids=["raises", "unknown model", "broken body"],
)
@pytest.mark.parametrize("on_error", list(OnError))
def test_a_failure_costs_what_the_plugin_declares(plugin, on_error):
    """Open: as if it were not there. Closed: a 500. Counted and heard of either way, and the next one still runs."""
    notes, after = Notes(), Says(RequestChange(set_headers=(("x-after", "1"),)))
    chain = (link(plugin, on_error), after)
    if on_error is OnError.OPEN:
        assert ("x-after", "1") in forwarded(*chain, notes=notes).set_headers
    else:
        with pytest.raises(Internal, match="internal error"):
            forwarded(*chain, notes=notes)
        assert notes.records[-1].reason is Refusal.PLUGIN_FAILED
    ((point, name, _),) = notes.failures
    assert (point, name) == (Point.REQUEST, type(plugin).__name__)


def test_every_run_is_timed():
    """A failed one too."""
    notes = Notes()
    forwarded(Says(), link(Fails(), OnError.OPEN), notes=notes)
    assert notes.runs == [(Point.REQUEST, "Says", 1), (Point.REQUEST, "Fails", 1)]


def test_plugins_are_not_asked_where_a_route_names_the_model():
    """The request has passed them before, on its way to the mirror or fallback."""
    plugin = Says(RequestChange(model="chatbot"))
    decision = bbr(plugins=(plugin,)).decide(asking(chat("llama")), "food")
    assert isinstance(decision, Forward)
    assert dict(decision.set_headers)["x-gateway-model-name"] == "food"
    assert plugin.seen is None


class Shouts:
    """A response plugin that changes heads and bodies."""

    def __init__(self, fail_at: int = 0) -> None:
        self._left = fail_at

    def response(self, view: AnswerView) -> AnswerChange | None:
        if view.head.status != 200:
            return None
        return AnswerChange(set_headers=(("x-shout", view.asked or "-"),), body=self)

    def feed(self, data: bytes, *, end: bool) -> bytes:
        self._left -= 1
        if self._left == 0:
            raise KeyError("bug")
        return data.upper() if self._left < 0 else data


async def answered(*plugins, body: bytes, content_type: str = "text/plain", contain: bool = False, cut=()):
    script = Script(bbr(plugins=plugins), response_body="FULL_DUPLEX_STREAMED", contain=contain)
    return await script.response(200, {"content-type": content_type}, body, cut=cut)


@pytest.mark.parametrize("content_type", ["text/plain", "text/event-stream"])
async def test_a_response_plugin_changes_head_and_body(content_type):
    """Streams as they come, other bodies in one piece."""
    answer = await answered(Shouts(), body=b"data: a\n\n", content_type=content_type, cut=[3])
    assert (answer.body, answer.set_headers["x-shout"]) == (b"DATA: A\n\n", "-")


async def test_a_plugin_that_does_not_care_costs_the_answer_nothing():
    """It passes unseen."""
    script = Script(bbr(plugins=(Shouts(),)), response_body="FULL_DUPLEX_STREAMED")
    answer = await script.response(404, {}, b"no", cut=[1])
    assert (answer.body, answer.complete) == (b"no", True)


@pytest.mark.parametrize(("on_error", "status"), [(OnError.OPEN, None), (OnError.CLOSED, 500)])
async def test_a_failure_before_the_answer_costs_what_the_plugin_declares(on_error, status):
    """The answer goes on unchanged, or the client gets a 500."""
    answer = await answered(link(Fails(), on_error), body=b"hello")
    assert (answer.rejected.status if answer.rejected else None) == status
    assert status or answer.body == b"hello"


@pytest.mark.parametrize(("on_error", "whole"), [(OnError.OPEN, True), (OnError.CLOSED, False)])
async def test_a_failure_within_a_stream_passes_it_on_or_cuts_it(on_error, whole):
    """Passing on is possible where nothing was changed so far; a stream that is cut is seen to be cut."""
    script = Script(
        bbr(plugins=(link(Shouts(fail_at=2), on_error),)), response_body="FULL_DUPLEX_STREAMED", contain=True
    )
    await script.response_head(200, {"content-type": "text/event-stream"})
    await script.response_chunk(b"one")
    try:
        answer = await script.response_chunk(b"two", end=True)
    except Exception:  # noqa: BLE001 - the transport ends the stream with it
        assert not whole
    else:
        assert whole
        assert answer.body == b"onetwo"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{type: nothing}", r"\$\.plugins\[0\].*nothing.*built in are base-model-to-header"),
        ("{type: body-field-to-header}", r"\$\.plugins\[0\]"),
        ("{type: body-field-to-header, parameters: {fieldName: a, header: b}}", "header: no parameter"),
        ("{type: body-field-to-header, parameters: {fieldName: 1, headerName: b}}", "Expected `str`"),
        ("{type: base-model-to-header, on_error: maybe}", r"\$\.plugins\[0\]\.on_error"),
    ],
)
def test_a_plugin_that_cannot_be_made_is_told_with_its_place(entry, message):
    """At start."""
    with pytest.raises(ConfigError, match=message):
        tuple(parse(f"models: [{{name: m}}]\nplugins: [{entry}]", Config).chain())


def test_the_configuration_makes_the_chain():
    """In its order, with the reference's names of parameters; the entry may overrule what the plugin declares."""
    text = """
models: [{name: m}]
plugins:
  - {type: body-field-to-header, name: user, parameters: {fieldName: user, headerName: X-User}, on_error: open}
  - {type: base-model-to-header}
"""
    first, second = parse(text, Config).chain()
    assert first.plugin == BodyFieldToHeader("user", "X-User")
    assert (first.id.type, first.id.name, first.on_error) == ("body-field-to-header", "user", OnError.OPEN)
    assert (second.id.name, second.on_error) == ("base-model-to-header", OnError.CLOSED)


def entry(name: str, what: str) -> EntryPoint:
    return EntryPoint(name, f"tests.bbr.test_plugins:{what}", "inference_gateway.bbr.plugins")


def test_an_installed_package_brings_plugins():
    """By its entry point, loaded only when named."""
    points = [entry("loud", "Shouts"), entry("broken", "NoSuchThing")]
    plugin = build("loud", {"failAt": 3}, installed=lambda: points)
    assert type(plugin).__name__ == "Shouts"
    assert declared(plugin) is OnError.CLOSED


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([entry("x", "Shouts"), entry("x", "Says")], "more than one"),
        ([entry("x", "ALIASES")], "no class or function"),
        ([entry("x", "Rules")], "neither `request` nor `response`"),
    ],
)
def test_an_entry_point_that_is_no_plugin_is_refused(points, message):
    """With what is wrong."""
    with pytest.raises(PluginError, match=message):
        build("x", {}, installed=lambda: points)


def test_without_plugins_there_is_no_chain():
    """The path that most gateways take has nothing to go through."""
    assert not tuple(parse("models: [{name: m}]", Config).chain())
    assert Rules(MODELS, ALIASES).ways
