from __future__ import annotations

import functools
import json

import pytest

from services.safety.holdback import Tail
from services.safety.verdict import Action, State
from tests.safety import kit
from tests.safety.kit import PEM, SECRET, side

TEXTS = {
    f"my key is {SECRET} ok": "my key is [REDACTED:aws-access-key] ok",
    f"{SECRET}{SECRET}": "[REDACTED:aws-access-key][REDACTED:aws-access-key]",
    f"a\n{PEM}\nb": "a\n[REDACTED:private-key]\nb",
    "card 4111 1111 1111 1111.": "card [REDACTED:card].",
    "card 4111 1111 1111 1112.": "card 4111 1111 1111 1112.",
    f"postgres://u:{SECRET}@host/x": "[REDACTED:password-in-url]/x",
    "AKIA, AKIAX, sk-, eyJ… and é😀 -----BEGIN": "AKIA, AKIAX, sk-, eyJ… and é😀 -----BEGIN",
}


engines = pytest.mark.parametrize("engine", ["re2", "hyperscan"])


@functools.cache
def policies(engine):
    return kit.policies(f"{kit.CONFIG}engine: {engine}\n")


def follow(parts, name="default", *, is_json=False, engine="re2"):
    tail = Tail(policies(engine).by_name[name].response, is_json=is_json)
    return [tail.feed(part) for part in parts] + [tail.feed("", final=True)]


@engines
@pytest.mark.parametrize(("text", "expected"), TEXTS.items())
def test_the_same_leaves_wherever_the_text_is_cut(text, expected, engine):
    """Masks stand where they would in the whole text, and nothing else changes."""
    for cut in range(len(text) + 1):
        assert "".join(r.text for r in follow([text[:cut], text[cut:]], engine=engine)) == expected
    assert "".join(r.text for r in follow(list(text), engine=engine)) == expected


@engines
def test_no_character_of_a_match_leaves_before_it_is_masked(engine):
    """What has left is at every moment a beginning of what may leave."""
    text, out = f"key {SECRET} end", ""
    tail = Tail(policies(engine).by_name["default"].response)
    for char in text:
        out += tail.feed(char).text
        assert "key [REDACTED:aws-access-key] end".startswith(out)


def test_clean_text_leaves_at_once():
    """A word that begins no secret waits for nothing."""
    tail = Tail(side())
    assert [tail.feed(word).text for word in ("Yes, ", "it ", "does ")] == ["Yes, ", "it ", "does "]
    assert tail.held == 0


def test_a_block_leaves_what_stands_before_it_and_says_why():
    """The category goes into the message, the finding into the record."""
    released = Tail(side()).feed("about Project Bluebird, ")
    assert (released.text, released.block) == ("about ", "blocklist")
    assert [(finding.rule, action) for finding, action in released.findings] == [("names", Action.BLOCK)]


def test_what_is_only_inspected_waits_for_nothing():
    """Reporting needs no hold-back."""
    first, second, last = follow(["write to jane@exam", "ple.org now"])
    assert first.text + second.text == "write to jane@example.org now"
    assert [(f.rule, f.start, f.end, a) for f, a in second.findings + last.findings] == [
        ("email", 9, 25, Action.INSPECT)
    ]


def test_a_match_without_end_is_masked_at_the_cap():
    """The rest of that text does not leave: its end cannot be told."""
    released = follow(["key: -----BEGIN " + "PRIVATE KEY-----", *["A" * 64] * 200, " and more"])
    assert "".join(r.text for r in released) == "key: [REDACTED:limit]"
    assert State.LIMIT in {r.state for r in released}


def test_a_match_without_end_blocks_at_the_cap_where_the_policy_says_so():
    """`at_limit: block`."""
    released = follow(["-----BEGIN " + "PRIVATE KEY-----", *["A" * 64] * 20], "strict")
    assert "limit" in {r.block for r in released}


def test_masks_before_a_block_are_in_place():
    """What leaves before the match is as it would leave without it."""
    released = Tail(side()).feed(f"{SECRET} of Project Bluebird, {SECRET}")
    assert (released.text, released.block) == ("[REDACTED:aws-access-key] of ", "blocklist")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f'{{"k":"{SECRET}"}}', {"k": "[REDACTED:aws-access-key]"}),
        ('{"n":4111111111111111,"m":1}', {"n": "[REDACTED:card]", "m": 1}),
        ('{"n":[4111111111111111],"s":"a\\"b"}', {"n": ["[REDACTED:card]"], "s": 'a"b'}),
        ('{"s":"x\\n4111111111111111"}', {"s": "x[REDACTED:card]"}),
        ('{"s":"\\\\n4111111111111111"}', {"s": "\\[REDACTED:card]"}),
        (f'{{"s":"\\\\","k":"{SECRET}"}}', {"s": "\\", "k": "[REDACTED:aws-access-key]"}),
    ],
)
def test_tool_arguments_stay_json(text, expected):
    """A masked number becomes a string, a masked string stays one, at every cut."""
    for cut in range(len(text) + 1):
        assert json.loads("".join(r.text for r in follow([text[:cut], text[cut:]], is_json=True))) == expected
