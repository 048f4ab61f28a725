"""A conversation that grows keeps what it had at its beginning."""

from __future__ import annotations

import base64

import msgspec
import pytest

from tools.model_server.prompts import Message, instructed_answer, last_user_text, plain, render_chat


def parts(*items):
    return [msgspec.Raw(msgspec.json.encode(item)) for item in items]


def test_the_next_turn_begins_with_this_turn_and_its_answer():
    """Or the prefix cache would never be hit by a conversation."""
    first = [Message("system", "Be terse."), Message("user", "Hello")]
    second = [*first, Message("assistant", "Hi."), Message("user", "And now?")]
    assert render_chat(second).startswith(render_chat(first) + b"Hi.")


def test_tools_are_part_of_the_prompt():
    """Other tools, other cache."""
    turn = [Message("user", "Hello")]
    assert render_chat(turn, tools=b"[1]") != render_chat(turn, tools=b"[2]")
    assert render_chat(turn, tools=b"[1]").startswith(b"<|tools|>\n[1]")


def test_parts_read_like_their_text():
    """A list of text parts is the same prompt as the string."""
    assert plain(parts({"type": "text", "text": "a"}, {"type": "text", "text": "b"})) == "ab"


def test_images_count_by_their_digest():
    """Two images differ; the megabytes of a data URL are not tokens."""
    one, other = ({"type": "image_url", "image_url": {"url": "data:" + c * 10_000}} for c in "ab")
    assert plain(parts(one)) == plain(parts(one)) != plain(parts(other))
    assert len(plain(parts(one))) < 60


def test_the_last_user_text_is_found_behind_tool_results():
    """The instruction may not be the last message."""
    assert last_user_text([Message("user", "a"), Message("user", "b"), Message("tool", "c")]) == "b"
    assert not last_user_text([Message("system", "a")])


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("echo: TEXT", "TEXT"),
        ("echo:TEXT: more", "TEXT: more"),
        ("echo-b64: " + base64.b64encode("Grüße".encode()).decode(), "Grüße"),
        ("echo-b64: !!", None),
        ("please echo: TEXT", None),
        ("", None),
    ],
)
def test_an_instruction_says_the_answer(text, answer):
    """`echo:` in clear, `echo-b64:` for answers that no prompt may show; anything else is none."""
    assert instructed_answer(text) == answer
