from __future__ import annotations

import json

import pytest

from services.openai.texts import walk
from services.safety.adjacent import crossing
from services.safety.judge import Tally, judge
from tests.safety import kit
from tests.safety.exchange import Exchange

HALF = kit.SECRET[:7], kit.SECRET[7:]


def message(*parts, role="user"):
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"messages": [{"role": role, "content": content}]}


PICTURE = {"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}


@pytest.mark.parametrize(
    "document",
    [
        message(f"key {HALF[0]}", f"{HALF[1]} ok"),
        message(f"key {HALF[0]}", PICTURE, HALF[1]),
        message(HALF[0][:3], HALF[0][3:], HALF[1]),
        message("about project", "bluebird"),
        {"system": [{"type": "text", "text": HALF[0]}, {"type": "text", "text": HALF[1]}]},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": half} for half in HALF]}]},
        {"messages": [{"role": "user", "content": [
            {"type": "tool_result", "content": [{"type": "text", "text": half} for half in HALF]}]}]},
    ],
)  # fmt: skip
async def test_a_match_over_several_parts_blocks(document):
    """With nothing or a line's end between them, as templates join them; a picture between them is no hindrance."""
    assert (await Exchange().ask(document)).rejected.status == 403


async def test_each_part_of_it_is_masked_in_its_place():
    """And what stands alone in a part too; nothing else changes."""
    document = message("card 4111 1111", " 1111 1111, and 5500-0000-0000-0004.", "x")
    sent = await Exchange().ask(document)
    texts = [part["text"] for part in json.loads(sent.body)["messages"][0]["content"]]
    assert texts == ["card [REDACTED:card]", "[REDACTED:card], and [REDACTED:card].", "x"]


@pytest.mark.parametrize(
    "document",
    [
        {"prompt": list(HALF)},
        {"messages": [{"role": "user", "content": half} for half in HALF]},
        message(HALF[0], "and", HALF[1]),
        message("a clean", "text"),
    ],
)
async def test_what_no_template_joins_is_not_joined(document):
    """Items of a batch, messages, and parts with other text between them."""
    assert (await Exchange().ask(document)).rejected is None


def test_only_what_crosses_is_reported():
    """What lies in one part is that part's own finding."""
    side = kit.side()
    texts = walk(message(f"{kit.SECRET} a", f"b {kit.SECRET}"))
    assert crossing(texts, side.checks) == {}
    tally = Tally()
    judge(texts, side, tally)
    assert len(tally.findings) == 2
