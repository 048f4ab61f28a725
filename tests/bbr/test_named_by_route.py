"""A route's own word on the model: mirrors and fallbacks to pools that know it under another name."""

from __future__ import annotations

import json

import pytest

from services.bbr.routing import BASE_MODEL_HEADER, MODEL_HEADER
from services.bbr.service import MODEL_CONTEXT
from services.extproc.decisions import Forward
from services.extproc.errors import NotFound
from tests.bbr.world import asking, bbr, chat


@pytest.mark.parametrize(("named", "target", "base"), [("food", "food", "llama"), ("f", "food", "llama")])
async def test_the_model_that_the_route_names_counts_and_not_the_bodys(named, target, base):
    """It is resolved as a client's would be, and the server is asked for it."""
    decision = await bbr().open({MODEL_CONTEXT: named}).request(asking(chat("chatbot", seed=1)))
    assert isinstance(decision, Forward)
    assert dict(decision.set_headers)[MODEL_HEADER] == target
    assert dict(decision.set_headers)[BASE_MODEL_HEADER] == base
    assert decision.body is not None
    assert json.loads(decision.body) == json.loads(chat(target, seed=1))


async def test_a_body_that_says_the_routes_model_already_is_left_alone():
    """Nothing is replaced by itself."""
    decision = await bbr().open({MODEL_CONTEXT: "llama"}).request(asking(chat("llama")))
    assert isinstance(decision, Forward)
    assert decision.body is None


async def test_a_route_that_names_no_model_of_ours_is_404():
    """A mistake in the routes reaches no server."""
    with pytest.raises(NotFound, match="nobody"):
        await bbr().open({MODEL_CONTEXT: "nobody"}).request(asking(chat("llama")))
