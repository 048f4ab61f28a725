from __future__ import annotations

import json

import pytest

from services.openai.dialects import Dialect
from services.tokens.prompts import Conversation, Ids, Plain, prompt_of

TURNS = [
    {"role": "user", "content": "Hello", "name": "ann"},
    {"role": "assistant", "tool_calls": [{"id": "1"}]},
]


@pytest.mark.parametrize(
    ("body", "prompt"),
    [
        ({"prompt": "Hello"}, Plain("Hello")),
        ({"prompt": ["Hello"]}, Plain("Hello")),
        ({"prompt": "Hello", "add_special_tokens": False}, Plain("Hello", special=False)),
        ({"prompt": [1, 2, 3]}, Ids((1, 2, 3))),
        ({"prompt": [7]}, Ids((7,))),
        ({"prompt": [[1, 2, 3]]}, Ids((1, 2, 3))),
        ({"prompt": ["Hello", "World"]}, None),
        ({"prompt": [[1], [2]]}, None),
        ({"prompt": [1, "x"]}, None),
        ({"prompt": []}, None),
        ({"prompt": None}, None),
        ({"prompt": {"a": 1}}, None),
        ({"prompt": "Hello", "truncate_prompt_tokens": 5}, None),
        ({"prompt_embeds": "abcd"}, None),
    ],
)
def test_completions(body, prompt):
    """One prompt, as text or as ids; what is several or cut has no tokens that are known here."""
    assert prompt_of(json.dumps({"model": "m", **body}).encode(), Dialect.COMPLETIONS, "m") == prompt


def test_a_conversation_is_handed_to_the_server_with_all_that_its_template_sees():
    """Messages byte for byte, tools, and the template's own fields; the model is the one that serves."""
    shared = {
        "messages": TURNS,
        "tools": [{"type": "function"}],
        "add_generation_prompt": False,
        "continue_final_message": True,
        "chat_template_kwargs": {"enable_thinking": False},
    }
    body = json.dumps({"model": "alias", "temperature": 0, "stream": True, **shared}).encode()
    prompt = prompt_of(body, Dialect.CHAT, "target")
    assert isinstance(prompt, Conversation)
    assert json.loads(prompt.body) == {"model": "target", **shared}


@pytest.mark.parametrize(
    ("dialect", "changed"),
    [
        (Dialect.CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
        (Dialect.CHAT, {"documents": [{"text": "x"}]}),
        (Dialect.CHAT, {"reasoning_effort": "high"}),
        (Dialect.CHAT, {"truncate_prompt_tokens": 5}),
        (Dialect.CHAT, {"messages": "Hello"}),
        (Dialect.MESSAGES, {}),
        (Dialect.RESPONSES, {"input": "Hello"}),
    ],
)
def test_what_tokenize_does_not_take_has_no_tokens(dialect, changed):
    """Images, other APIs, and fields that change the prompt in ways that are not known here."""
    assert prompt_of(json.dumps({"model": "m", "messages": TURNS, **changed}).encode(), dialect, "m") is None


def test_text_in_parts_is_text():
    """Clients send it so too."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    body = json.dumps({"model": "m", "messages": messages}).encode()
    assert isinstance(prompt_of(body, Dialect.CHAT, "m"), Conversation)
