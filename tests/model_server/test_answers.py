"""Answers are deterministic, and end where they should."""

from __future__ import annotations

import pytest

from tools.model_server.answers import DEFAULT_MAX_TOKENS, Speaker

SPEAKER = Speaker(seed=1)


def say(instruction="hello", prompt=b"p", max_tokens=None, stop=(), variant=0, speaker=SPEAKER):
    return speaker.answer(instruction, prompt, max_tokens=max_tokens, stop=stop, variant=variant)


@pytest.mark.parametrize("count", [1, 8, 200, 20_000])
def test_seeded_words_are_as_many_tokens_as_asked_for(count):
    """They would have gone on, so the reason is the length."""
    answer = say(max_tokens=count)
    assert (answer.tokens, answer.finish) == (count, "length")
    assert answer.text.strip() == answer.text


def test_without_a_limit_the_model_stops_by_itself():
    """After sixteen tokens."""
    answer = say()
    assert (answer.tokens, answer.finish) == (DEFAULT_MAX_TOKENS, "stop")


def test_words_depend_on_prompt_seed_and_choice_alone():
    """Equal requests to servers of equal seed have equal answers."""
    assert say() == say(speaker=Speaker(seed=1))
    assert (
        len({say().text, say(prompt=b"q").text, say(variant=1).text, say(speaker=Speaker(seed=2)).text}) == 4
    )


def test_an_echo_ends_where_its_text_ends():
    """Cut to `max_tokens` of four characters."""
    answer = say("echo: my key is 12", max_tokens=8)
    assert [answer.piece(i) for i in range(answer.tokens)] == ["my k", "ey i", "s 12"]
    assert answer.finish == "stop"
    assert say("echo: my key is 12", max_tokens=2).text == "my key i"
    assert say("echo: my key is 12", max_tokens=2).finish == "length"


def test_a_stop_string_ends_the_answer_before_it():
    """The earliest one counts, and is named."""
    answer = say("echo: one two three", stop=("three", "two", ""))
    assert (answer.text, answer.finish, answer.stopped_by) == ("one ", "stop", "two")


def test_an_empty_answer_is_one_empty_token():
    """The engine always decodes something."""
    assert (say("echo: ").text, say("echo: ").tokens) == ("", 1)
