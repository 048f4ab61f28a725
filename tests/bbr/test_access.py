from __future__ import annotations

import json

import pytest

from services.bbr.access import NOTHING, Access, Names
from services.bbr.records import Refusal
from services.bbr.rules import Rules
from services.bbr.service import Bbr
from services.extproc.decisions import Forward, Reject
from services.extproc.errors import ExtProcError, Forbidden, NotFound
from tests.bbr.world import ALIASES, MODELS, Notes, asking, bbr, chat

TEAMS = {"a": Names(allow=("llama", "f*")), "b": Names(deny=("llama",))}
STRICT = Access(everyone=Names(deny=("chatbot",)), consumer_header="x-team", consumers=TEAMS, unknown=NOTHING)


@pytest.mark.parametrize(
    ("names", "name", "inside"),
    [
        (Names(), "llama", True),
        (Names(allow=()), "llama", False),
        (Names(allow=("llama",)), "llama", True),
        (Names(allow=("llama",)), "llama-2", False),
        (Names(allow=("llama*",)), "llama-2", True),
        (Names(allow=("llama*",), deny=("llama-2",)), "llama-2", False),
        (Names(deny=("*",)), "llama", False),
    ],
)
def test_a_list_holds_names_and_beginnings(names, name, inside):
    """Deny beats allow; no allow list allows all."""
    assert (name in names) is inside


@pytest.mark.parametrize(
    ("team", "model", "allowed"),
    [
        (("a",), "llama", True),
        (("a",), "food", True),
        (("a",), "f", True),
        (("a",), "l", False),
        (("a",), "chatbot", False),
        (("b",), "food", True),
        (("b",), "llama", False),
        (("b",), "chatbot", False),
        (("c",), "food", False),
        ((), "food", False),
        (("a", "b"), "food", False),
    ],
)
def test_a_consumer_gets_what_its_lists_and_everybodys_allow(team, model, allowed):
    """Lists are about the names that clients ask for; a header that comes twice names nobody."""
    assert STRICT.permits(STRICT.group(team), model) is allowed


def service(access: Access, notes: Notes | None = None) -> Bbr:
    return bbr(rules=Rules(MODELS, ALIASES, access=access), notes=notes)


@pytest.mark.parametrize(
    ("forbids", "kind", "code"),
    [(False, NotFound, "model_not_found"), (True, Forbidden, "model_not_allowed")],
)
def test_a_model_of_others_does_not_seem_to_exist_or_is_forbidden(forbids, kind, code):
    """As configured; the metric knows which it was."""
    notes = Notes()
    access = Access(consumer_header="x-team", consumers=TEAMS, forbids=forbids)
    with pytest.raises(ExtProcError) as caught:
        service(access, notes).decide(asking(chat("chatbot"), x_team="a"))
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert notes.records[0].reason is Refusal.MODEL_NOT_ALLOWED


def test_a_hidden_model_answers_as_one_that_is_not_there():
    """Word for word but its name."""

    def refusal(model: str) -> tuple[str, bytes]:
        bbr_ = service(STRICT)
        request = asking(chat(model), x_team="a")
        with pytest.raises(NotFound) as caught:
            bbr_.decide(request)
        answer = bbr_.refuse(caught.value, request)
        return answer.details, answer.body.replace(model.encode(), b"")

    assert refusal("chatbot") == refusal("nobody")


def test_what_is_allowed_is_routed():
    """The lists cost nothing else."""
    assert isinstance(service(STRICT).decide(asking(chat("food"), x_team="a")), Forward)


@pytest.mark.parametrize(
    ("headers", "ids"),
    [
        ({"x_team": "a"}, ["llama", "food", "f"]),
        ({"x_team": "b"}, ["food", "l", "f"]),
        ({"x_team": "c"}, []),
        ({}, []),
    ],
)
def test_the_list_shows_what_the_consumer_may_use(headers, ids):
    """Again and again, for one after the other."""
    bbr_ = service(STRICT)
    for _ in range(2):
        answer = bbr_.decide(asking(b"", "/v1/models", "GET", **headers))
        assert isinstance(answer, Reject)
        assert [card["id"] for card in json.loads(answer.body)["data"]] == ids
        bbr_.decide(asking(b"", "/v1/models", "GET", x_team="b"))


def test_one_model_of_others_is_not_shown():
    """Nor by its id."""
    with pytest.raises(NotFound):
        service(STRICT).decide(asking(b"", "/v1/models/llama", "GET", x_team="b"))
