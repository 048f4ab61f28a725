from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.workload import mooncake
from tools.workload.mooncake import Record, Scale, TraceError
from tools.workload.prefixes import Prompt, ideal_hits

STAND_IN = Path(__file__).parent / "trace.jsonl"
PUBLISHED = Path(__file__).parents[3] / "shared" / "traces"


def stand_in() -> Iterator[Record]:
    return mooncake.read(STAND_IN.read_bytes().splitlines())


def test_a_line_is_a_request():
    """Times become seconds, lengths become tokens, and every request is a session of its own."""
    requests = list(mooncake.requests(stand_in()))
    assert [request.at for request in requests] == [0, 0.25, 0.25, 1, 4]
    assert [len(request.messages[0].content) // 4 for request in requests] == [1500, 1300, 512, 2048, 100]
    assert [request.max_tokens for request in requests] == [20, 7, 1, 60, 3]
    assert len({request.session for request in requests}) == 5


def test_equal_hash_ids_are_equal_text():
    """Prompts share exactly the blocks whose ids they share, a cut last block included."""
    first, second, other, fourth, _ = (r.messages[0].content for r in mooncake.requests(stand_in()))
    block = 512 * 4
    assert first[:block] == second[:block]
    assert first[block : block + 64] != second[block : block + 64]
    assert fourth.startswith(first)
    assert other[:64] != first[:64]


def test_a_block_reads_the_same_in_every_run():
    """The text of a block depends on its id alone."""
    assert next(mooncake.requests(stand_in())).messages[0].content.startswith("let mot bit bol ")


def test_scaling_shortens_prompts_and_keeps_what_they_share():
    """An eighth of the tokens, a tenth of the time, half of the answer; an answer keeps at least one token."""
    scale = Scale(speed=10, block_tokens=64, answers=0.5)
    requests = list(mooncake.requests(stand_in(), scale))
    assert [request.at for request in requests] == [0, 0.025, 0.025, 0.1, 0.4]
    assert [len(r.messages[0].content) // 4 for r in requests] == [188, 163, 64, 256, 13]
    assert [request.max_tokens for request in requests] == [10, 4, 1, 30, 2]
    assert requests[3].messages[0].content.startswith(requests[0].messages[0].content)


def test_reading_takes_one_line_at_a_time():
    """A trace of any size can be read: no line is taken before its record is wanted."""
    lines = iter(STAND_IN.read_bytes().splitlines())
    next(mooncake.requests(mooncake.read(lines)))
    assert len(list(lines)) == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"timestamp": 0', "line 2: "),
        ('{"timestamp": 0, "input_length": 1, "output_length": 1}', "line 2: .*hash_ids"),
        ('{"timestamp": "x", "input_length": 1, "output_length": 1, "hash_ids": [1]}', "line 2: .*timestamp"),
        (
            '{"timestamp": 0, "input_length": 513, "output_length": 1, "hash_ids": [1]}',
            "line 2: 1 hash_ids, expected 2 blocks for 513 tokens",
        ),
    ],
)
def test_a_bad_line_is_refused_with_its_number(line, message):
    """The message says where and what was expected."""
    good = STAND_IN.read_text().splitlines()[0]
    with pytest.raises(TraceError, match=message):
        list(mooncake.read([good, line]))


def test_blank_lines_are_skipped():
    """A file may end with an empty line."""
    assert list(mooncake.read(["", "\n"])) == []


@pytest.mark.parametrize(
    ("name", "count", "blocks_found"),
    [("conversation", 12_031, 0.366), ("synthetic", 3_993, 0.640)],
)
def test_the_published_traces_give_the_published_hit_rates(name, count, blocks_found):
    """Share of the blocks that an infinite cache finds, as the authors of the traces state it."""
    path = PUBLISHED / f"mooncake_{name}_trace.jsonl"
    if not path.exists():
        pytest.skip("the published traces are not on this machine")
    with path.open("rb") as lines:
        records = list(mooncake.read(lines))
    assert len(records) == count
    # In whole blocks, as the authors count; our own rate is in tokens, where short last blocks weigh less.
    prompts = [Prompt(r.hash_ids, 512 * len(r.hash_ids), 512) for r in records]
    assert ideal_hits(prompts).rate == pytest.approx(blocks_found, abs=0.001)
