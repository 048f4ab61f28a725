from __future__ import annotations

import json

from services.bbr.models import ModelList
from services.bbr.rules import BaseModel, Rules

LLAMA = BaseModel("llama", adapters=("food",), owned_by="meta", created=5)
MODELS = ModelList(Rules((LLAMA, BaseModel("org/gemma")), aliases={"l": "llama", "f": "food"}))


def card(
    name: str, root: str, parent: str | None, owned_by: str = "meta", created: int = 5
) -> dict[str, object]:
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": owned_by,
        "root": root,
        "parent": parent,
    }


def test_the_list_holds_models_adapters_and_aliases():
    """An adapter's parent is its base, an alias's what it stands for; the root is where the weights are."""
    answer = MODELS.answer("")
    assert answer is not None
    assert (answer.status, answer.headers) == (200, (("content-type", "application/json"),))
    assert json.loads(answer.body) == {
        "object": "list",
        "data": [
            card("llama", "llama", None),
            card("food", "llama", "llama"),
            card("org/gemma", "org/gemma", None, owned_by="", created=0),
            card("l", "llama", "llama"),
            card("f", "llama", "food"),
        ],
    }


def test_one_model_is_answered_by_its_id():
    """With the same entry as in the list."""
    answer = MODELS.answer("food")
    assert answer is not None
    assert json.loads(answer.body) == card("food", "llama", "llama")


def test_a_model_that_is_not_there_has_no_answer():
    """The service refuses in the client's words."""
    assert MODELS.answer("mistral") is None
