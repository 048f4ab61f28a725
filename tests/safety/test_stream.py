from __future__ import annotations

import json

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseIncompleteEvent

from services.openai import sse
from services.safety.judge import Tally
from services.safety.stream import StreamFilter
from services.safety.verdict import Action, State
from tests.safety import kit
from tests.safety.kit import SECRET

DIALECTS = {
    "chat": kit.chat,
    "reasoning": lambda pieces: kit.chat(pieces, field="reasoning_content"),
    "arguments": lambda pieces: kit.arguments(['{"k":"', *pieces, '"}']),
    "names": kit.names,
    "completions": kit.completions,
    "messages": kit.messages,
    "responses": kit.responses,
}
WORDS = [
    "it is ",
    kit.SECRET[:1],
    kit.SECRET[1:9],
    kit.SECRET[9:],
    " and ",
    "4111 1111",
    " 1111 1111",
    " é😀 AK",
]
CLEAN = "it is [REDACTED:aws-access-key] and [REDACTED:card] é😀 AK"


def run(parts, side=None):
    tally = Tally()
    stream = StreamFilter(side or kit.side(), tally)
    out = [stream.feed(part) for part in parts]
    if not stream.ended:
        out.append(stream.feed(b"", end=True))
    return b"".join(out), tally, stream


@pytest.mark.parametrize("dialect", ["chat", "reasoning", "completions", "messages", "responses"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_deltas_of_any_size_say_what_the_unstreamed_answer_says(dialect, size):
    """The text that a client puts together does not depend on how the model cut it."""
    text = "".join(WORDS)
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert kit.said(run(DIALECTS[dialect](pieces))[0]) == CLEAN


@pytest.mark.parametrize("dialect", DIALECTS)
def test_clean_events_leave_byte_for_byte_and_at_once(dialect):
    """Nothing is held or rewritten where nothing is found."""
    _, _, stream = run([])
    stream = StreamFilter(kit.side(), Tally())
    for event in DIALECTS[dialect](["Good ", "morning, ", "how do ", "you do?"]):
        assert stream.feed(event) == event
    assert stream.most_held == 0


def test_comments_and_usage_events_leave_as_they_came():
    """Keep-alives and the usage event of `include_usage` say nothing that a rule reads."""
    usage = sse.event(b'{"id":"x","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":123456789012}}')
    for event in (b": ping\n\n", b"\n", b"retry: 10\n\n", usage):
        assert run([event])[0] == event


def test_choices_do_not_mix():
    """With n>1 the pieces of two answers alternate; each text is followed by itself."""
    half, rest = kit.SECRET[:10], kit.SECRET[10:]
    one, two = kit.chat([half, rest], index=0), kit.chat([half, "…"], index=1)
    out = kit.documents(run([one[0], two[0], one[1], two[1], one[2], two[2], one[3]])[0])
    texts = {0: "", 1: ""}
    for document in out:
        for choice in document["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
    assert texts == {0: "[REDACTED:aws-access-key]", 1: f"{half}…"}


def test_tool_arguments_keep_their_json():
    """The masked arguments of a streamed call parse."""
    out = kit.said(run(kit.arguments(['{"n": 4111', '111111111111, "k": "AKIA', kit.SECRET[4:], '"}']))[0])
    assert json.loads(out) == {"n": "[REDACTED:card]", "k": "[REDACTED:aws-access-key]"}


@pytest.mark.parametrize("size", [1, 2, 5, 9, 200])
def test_escapes_in_tool_arguments_are_undone(size):
    """What the client's parser would read is what is judged, and the masked arguments still parse."""
    escaped = "".join(f"\\u{ord(char):04x}" for char in SECRET)
    text = f'{{"k": "{SECRET[:3]}{escaped[18:]}", "path": "a\\/b", "\\u0061": "{escaped}\\n"}}'
    assert json.loads(text)["k"] == SECRET
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    out = kit.said(run(kit.arguments(pieces))[0])
    mask = "[REDACTED:aws-access-key]"
    assert json.loads(out) == {"k": mask, "path": "a/b", "a": f"{mask}\n"}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_piece_that_may_begin_a_match_waits_as_a_whole_event(dialect):
    """The next one shows it to be harmless; both leave as they came, and nothing was rewritten."""
    events = DIALECTS[dialect](["ports ", "h", "o", "st", "s"])
    assert run(events)[0] == b"".join(events)


def test_other_texts_do_not_wait_for_the_one_that_does():
    """What is certain of a waiting event leaves before the next choice's."""
    one, two = kit.chat([" h", "ooks"], index=0), kit.chat(["clean"], index=1)
    stream = StreamFilter(kit.side(), Tally())
    assert stream.feed(one[0]) == b""
    assert kit.said(stream.feed(two[0])) == " clean"
    assert kit.said(stream.feed(one[1]) + stream.feed(one[2])) == "hooks"


def test_masked_events_become_one():
    """Many events in, few out; the first keeps what only it says, such as the call's id."""
    pieces = [kit.SECRET[at : at + 2] for at in range(0, len(kit.SECRET), 2)]
    out = kit.documents(run(kit.names([*pieces, " ok"]))[0])
    calls = [
        choice["delta"]["tool_calls"][0] for event in out for choice in event["choices"] if choice["delta"]
    ]
    names = [call["function"].get("name") for call in calls]
    assert names == ["[REDACTED:aws-access-key] ok", "", None], "the second event is the first without an id"
    assert calls[0]["id"] == "call_1"


def test_sequence_numbers_stay_right_where_events_are_added_and_masked():
    """The responses dialect counts: no number twice, none missing."""
    for pieces in (["see AK"], ["a ", *kit.SECRET, " b AK"], ["AK"], ["x", "AK", "IA "]):
        stream, _, _ = run(kit.responses(pieces))
        numbers = [document["sequence_number"] for document in kit.documents(stream)]
        assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_stands_before_a_forbidden_match_still_leaves(dialect):
    """The answer ends where the match begins, not an event earlier, wherever it was cut."""
    text = f"so {kit.SECRET} and project bluebird, no more"
    for size in (1, 3, 8, 100):
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        stream, tally, _ = run(DIALECTS[dialect](pieces))
        said = kit.said(stream).removeprefix('{"k":"')
        assert said == "so [REDACTED:aws-access-key] and "
        assert tally.block == "blocklist"


def test_held_text_leaves_before_the_choice_ends():
    """A tail that turns out harmless is said in an event of its own, before `finish_reason`."""
    out = kit.documents(run(kit.chat(["see AK"]))[0])
    assert [choice["delta"].get("content") for document in out for choice in document["choices"]] == [
        "see ",
        "AK",
        None,
    ]
    assert out[1] | {"choices": []} == out[0] | {"choices": []}
    assert out[-1]["choices"][0]["finish_reason"] == "stop"


def test_held_text_leaves_when_the_server_breaks_off():
    """Without `[DONE]` and without a blank line nothing that was cleared is lost."""
    events = kit.chat(["see AK"])
    assert kit.said(run([events[0]])[0]) == "see AK"
    assert kit.said(run([events[0].rstrip(b"\n")])[0].rstrip(b"\n") + b"\n\n") == "see AK"


def test_whole_texts_late_in_a_stream_are_masked_too():
    """The responses dialect repeats the answer in its last events."""
    out = run(kit.responses(["key ", kit.SECRET]))[0]
    assert kit.SECRET.encode() not in out
    completed = kit.documents(out)[-1]
    assert completed["response"]["output"][0]["content"][0]["text"] == "key [REDACTED:aws-access-key]"


FINAL = {
    "response.output_text.done": lambda event: event["text"],
    "response.content_part.done": lambda event: event["part"]["text"],
    "response.function_call_arguments.done": lambda event: event["arguments"],
    "response.output_item.done": lambda event: _of_item(event["item"]),
    "response.completed": lambda event: _of_item(event["response"]["output"][0]),
}
"""The events that repeat a whole text, and where."""


def _of_item(item):
    return item["arguments"] if "arguments" in item else item["content"][0]["text"]


def finals(stream):
    """Return what each final event of a responses stream says."""
    return [FINAL[event["type"]](event) for event in kit.documents(stream) if event.get("type") in FINAL]


REPEATED = {
    "text": (kit.responses, ["é AK", SECRET[2:], " and 4111 1111", " 1111 1111."]),
    "arguments": (kit.response_arguments, ['{"k": "AK', SECRET[2:], '", "n": 4111', "111111111111}"]),
}


@pytest.mark.parametrize("form", ["mask", "hash"])
@pytest.mark.parametrize("name", REPEATED)
def test_final_events_say_what_the_deltas_said(name, form):
    """Masks, hashes and all: the last events of the responses dialect hold nothing that the deltas did not."""
    make, pieces = REPEATED[name]
    side = kit.policies(kit.ANSWERS.replace("FORM", form)).choose("m").response
    stream = b"".join(make(pieces))
    expected = run([stream], side)[0]
    said = kit.said(expected)
    assert said.count("[REDACTED:") == 2
    assert said.count("[REDACTED:card:") == (form == "hash")
    assert finals(expected) == [said] * len(
        FINAL.keys() & {event["type"] for event in kit.documents(expected)}
    )
    assert len(finals(expected)) >= 3
    for cut in range(0, len(stream) + 1, 7):
        assert run([stream[:cut], stream[cut:]], side)[0] == expected


@pytest.mark.parametrize("name", REPEATED)
def test_nothing_of_a_forbidden_match_leaves_with_the_final_events(name):
    """The stream ends before them, wherever it is cut; they come neither whole nor in part."""
    make, _ = REPEATED[name]
    opened, closed = ("", "") if name == "text" else ('{"k": "', '"}')
    stream = b"".join(make([f"{opened}on ", "Pro", "ject Blue", f"bird, so{closed}"]))
    for cut in range(0, len(stream) + 1, 7):
        out, _, state = run([stream[:cut], stream[cut:]])
        assert state.ended
        assert kit.said(out) == f"{opened}on "
        assert b"Pro" not in out
        assert finals(out) == []


@pytest.mark.parametrize("kind", FINAL)
def test_a_match_that_only_a_final_event_holds_is_found(kind):
    """A server whose deltas say less than its last events opens no way out: masked in place, or the end."""
    make = kit.response_arguments if "arguments" in kind else kit.responses
    for hidden, word in ((SECRET, b"AKIA"), ("Project Bluebird", b"Bluebird")):
        events = make(['{"a":"clean"}'])
        position = next(n for n, event in enumerate(events) if kind.encode() in event)
        events[position] = events[position].replace(b"clean", hidden.encode())
        out, tally, state = run(events)
        assert word not in out
        assert state.ended is (tally.block == "blocklist") is (hidden != SECRET)


def test_logprobs_do_not_tell_what_is_masked():
    """They repeat the text token by token, so they leave empty."""
    event = kit.chat(["hi"])[0].replace(b'"logprobs": null', b'"logprobs": {"content": [{"token": "AKIA"}]}')
    assert b"AKIA" not in run([event])[0]
    assert kit.said(run([event])[0]) == "hi"


BLOCKED = ["well, ", "Project ", "Blue", "bird ", "is late"]


def test_a_block_ends_a_chat_stream_with_content_filter_and_done():
    """The SDK reads an ending that it knows, for every open choice."""
    stream, tally, state = run([*kit.chat(["x"], index=1)[:1], *kit.chat(BLOCKED)])
    last = ChatCompletionChunk.model_validate(kit.documents(stream)[-1])
    assert [(choice.index, choice.finish_reason) for choice in last.choices] == [
        (1, "content_filter"),
        (0, "content_filter"),
    ]
    assert last.id == "chatcmpl-1"
    assert stream.endswith(b"data: [DONE]\n\n")
    assert state.ended
    assert tally.block == "blocklist"
    assert tally.verdict().action is Action.BLOCK
    assert "Project" not in kit.said(stream)
    assert "late" not in kit.said(stream)


def test_a_block_ends_a_completions_stream():
    """`finish_reason` and an empty text."""
    stream, _, _ = run(kit.completions(BLOCKED))
    last = Completion.model_validate(kit.documents(stream)[-1])
    assert (last.choices[0].finish_reason, last.choices[0].text) == ("content_filter", "")
    assert stream.endswith(b"data: [DONE]\n\n")


def test_a_block_ends_a_messages_stream():
    """The open block stops, the message says why, the stream stops."""
    stream, _, _ = run(kit.messages(BLOCKED))
    ending = kit.documents(stream)[-3:]
    assert [event["type"] for event in ending] == ["content_block_stop", "message_delta", "message_stop"]
    assert ending[1]["delta"]["stop_reason"] == "refusal"
    assert stream.count(b"event: message_stop\n") == 1


def test_a_block_ends_a_responses_stream():
    """`response.incomplete` with the reason."""
    stream, _, _ = run(kit.responses(BLOCKED))
    last = ResponseIncompleteEvent.model_validate(kit.documents(stream)[-1])
    assert last.response.incomplete_details
    assert last.response.incomplete_details.reason == "content_filter"
    numbers = [document["sequence_number"] for document in kit.documents(stream)]
    assert numbers == sorted(set(numbers))


def test_nothing_follows_a_block():
    """What the server still says is dropped."""
    _, _, stream = run(kit.chat(BLOCKED))
    assert stream.feed(b"data: more\n\n", end=True) == b""


def test_an_event_that_cannot_be_read_ends_the_stream():
    """Fail-closed: it may say anything."""
    stream, tally, state = run([*kit.chat(["a"])[:1], b"data: {oops\n\n", *kit.chat(["b"])])
    assert state.ended
    assert tally.block == "undecodable"
    assert kit.documents(stream)[-1]["choices"][0]["finish_reason"] == "content_filter"


def test_an_event_that_cannot_be_read_passes_where_the_policy_is_open():
    """And is counted as not scanned."""
    stream, tally, _ = run([b"data: {oops\n\n"], kit.side("open"))
    assert stream == b"data: {oops\n\n"
    assert tally.verdict().state is State.SKIPPED
    assert tally.verdict().skipped == ("undecodable",)


def test_an_event_without_end_is_given_up():
    """Memory is bounded: closed ends the stream, open lets it through unread."""
    huge = [b"data: " + b"x" * (3 * 1024 * 1024), b"x" * (2 * 1024 * 1024)]
    assert run(huge)[2].ended
    assert run([*huge, b"\n\n"], kit.side("open"))[0] == b"".join(huge) + b"\n\n"
