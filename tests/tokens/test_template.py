"""Templates render as transformers renders them, from messages as vLLM shows them."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from services.tokens.prompts import RenderError
from services.tokens.template import ChatTemplate

FOLDER = Path(__file__).with_name("templates")
RECORDED = json.loads((FOLDER / "recorded.json").read_text(encoding="utf-8"))
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}

SEEN = ChatTemplate("{{ messages | tojson }}")
"""Shows what a template gets that takes a message's content as text."""
PARTS = ChatTemplate(
    "{% for m in messages %}{% for part in m['content'] %}{% endfor %}{% endfor %}{{ messages | tojson }}"
)
"""Likewise, for one that goes through the parts of a content."""


@pytest.mark.parametrize("case", RECORDED["cases"], ids=lambda case: case["template"])
def test_what_transformers_renders(case):
    """Blank lines, JSON, loop controls, marks for training, refusals: each as recorded."""
    template = ChatTemplate(
        (FOLDER / f"{case['template']}.jinja").read_text(encoding="utf-8"), special=SPECIAL
    )
    if "refused" in case:
        with pytest.raises(RenderError, match=case["refused"]):
            template.render(case)
    else:
        assert template.render(case) == case["text"]


def test_the_recording_holds_texts_and_a_refusal():
    """A recording of nothing would be matched by everything."""
    assert sum("text" in case for case in RECORDED["cases"]) >= 9
    assert sum("refused" in case for case in RECORDED["cases"]) == 1


def test_a_template_may_ask_for_the_date():
    """The clock is handed in."""
    template = ChatTemplate("{{ strftime_now('%Y-%m-%d') }}", now=lambda: dt.datetime(2026, 3, 1))  # noqa: DTZ001 - local
    assert template.render({"messages": []}) == "2026-03-01"


@pytest.mark.parametrize(
    ("message", "as_text", "as_parts"),
    [
        ({"role": "user", "content": "a"}, "a", [{"type": "text", "text": "a"}]),
        (
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}, "c"],
            },
            "a\nb\nc",
            [{"type": "text", "text": text} for text in "abc"],
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": ""}, "b"]},
            "b",
            [{"type": "text", "text": text} for text in ("", "b")],
        ),
        ({"role": "user", "content": None}, "", []),
        ({"role": "user"}, "", []),
        ({"role": "tool", "content": [{"type": "text", "text": "a"}, "b"]}, "a\nb", "a\nb"),
    ],
)
def test_a_template_sees_content_in_the_form_that_it_takes(message, as_text, as_parts):
    """One text, or a list of parts for a template that goes through them; what a tool said is always a text."""
    for template, content in ((SEEN, as_text), (PARTS, as_parts)):
        assert json.loads(template.render({"messages": [message]})) == [
            {"role": message["role"], "content": content}
        ]


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [('{"a": 1}', {"a": 1}), ({"a": 1}, {"a": 1}), ("", {}), (None, {}), ("[1]", {}), ("{", {})],
)
def test_arguments_of_a_call_are_an_object(arguments, seen):
    """The API has them as a text; a text that is no object is an empty one."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [call],
        "name": "bot",
        "reasoning": "hm",
        "refusal": None,
    }
    assert json.loads(SEEN.render({"messages": [message]})) == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{**call, "function": {"name": "f", "arguments": seen}}],
            "reasoning": "hm",
            "reasoning_content": "hm",
            "name": "bot",
        }
    ]


def test_no_calls_are_no_list_of_calls():
    """Templates take an empty list for a turn that calls tools."""
    rendered = SEEN.render({"messages": [{"role": "assistant", "content": "a", "tool_calls": []}]})
    assert json.loads(rendered) == [{"role": "assistant", "content": "a"}]


def test_tools_have_all_their_fields_in_the_servers_order():
    """Its request model has fixed fields first; a template that prints a tool prints these."""
    tool = {"function": {"strict": True, "parameters": {}, "name": "f"}, "type": "function"}
    rendered = ChatTemplate("{{ tools | tojson }}").render({"messages": [], "tools": [tool]})
    assert (
        rendered
        == '[{"type": "function", "function": {"name": "f", "description": null, "parameters": {}, "strict": true}}]'
    )


def test_conversations_with_tools_may_have_a_template_of_their_own():
    """Some models have two."""
    template = ChatTemplate("plain", with_tools="tools")
    tool = {"type": "function", "function": {"name": "f"}}
    assert template.render({"messages": []}) == "plain"
    assert template.render({"messages": [], "tools": [tool]}) == "tools"


@pytest.mark.parametrize(
    "text",
    [
        "{% for m in messages %}{% for c in m.content %}{% endfor %}{% endfor %}",
        "{% set loop_messages = messages[1:] %}{% for m in loop_messages %}{% for c in m['content'] | list %}{% endfor %}{% endfor %}",
        "{% for m in messages if m.role %}{% for c in m.content if c.text %}{% endfor %}{% endfor %}",
    ],
)
def test_a_loop_over_content_asks_for_parts(text):
    """However the messages are called."""
    template = ChatTemplate(text + "{{ messages[0].content is string }}")
    assert template.render({"messages": [{"role": "user", "content": "a"}]}) == "False"


@pytest.mark.parametrize(
    "text",
    [
        "{% for m in messages %}{{ m.content }}{% endfor %}",
        "{% for tool in tools or [] %}{% for c in tool.content %}{% endfor %}{% endfor %}",
        "{% macro write(content) %}{% for c in content %}{% endfor %}{% endmacro %}",
    ],
)
def test_other_loops_do_not(text):
    """As in vLLM, where a loop inside a macro does not count."""
    template = ChatTemplate(text + "{{ messages[0].content is string }}")
    assert template.render({"messages": [{"role": "user", "content": "a"}]}).endswith("True")


@pytest.mark.parametrize(
    "conversation",
    [
        {"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": {"messages": []}},
        {"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function"}]},
        {"messages": [{"content": "a"}]},
        {"messages": [{"role": "user", "content": 7}]},
    ],
)
def test_what_a_server_would_refuse_is_refused(conversation):
    """With a sentence, and nothing else."""
    with pytest.raises(RenderError):
        SEEN.render(conversation)


@pytest.mark.parametrize(
    "text", ["{{ messages[0].__class__.__mro__ }}", "{{ messages.clear() }}", "{{ 1 // 0 }}", "{% if %}"]
)
def test_a_template_reaches_nothing_but_its_values(text):
    """It comes from a model's repository, and may be anybody's."""
    with pytest.raises(RenderError):
        ChatTemplate(text).render({"messages": [{"role": "user", "content": "a"}]})
