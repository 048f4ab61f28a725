"""An explanation says why, shows everything, keeps no prompt, and can be decided again."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest

from services.epp.assemble import make_scheduler
from services.epp.config import EndpointPickerConfig
from services.epp.director import Ask, Director
from services.epp.endpoints import Endpoint, Metrics
from services.epp.explain import Journal
from services.epp.pool import Pool
from services.epp.records import Silent
from services.epp.replay import read, replay
from services.epp.scheduling.saturation import Utilization
from services.epp.state import Alone
from services.extproc.config import parse
from services.extproc.errors import Unavailable
from services.extproc.events import Headers
from services.openai.digest import Digest
from tests.epp.world import Clock, address, digest, pool_of, text

ASKED = Headers((("x-gateway-explain", "true"), ("authorization", "secret"), ("x-session-token", "t")))
HEAD = (
    "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\npools: [{name: llama, endpoints: ['a:1']}]\n"
)


def config(*scorers: str) -> EndpointPickerConfig:
    plugins = "".join(f"- {{type: {scorer}}}\n" for scorer in scorers)
    refs = "".join(f"  - {{pluginRef: {scorer}}}\n" for scorer in scorers)
    profile = f"schedulingProfiles:\n- name: p\n  plugins:\n{refs}"
    return parse(f"{HEAD}plugins:\n{plugins}{profile}", EndpointPickerConfig)


class Rig:
    def __init__(self, decides: EndpointPickerConfig, *, sample: float = 0.0, keep: int = 10) -> None:
        self.clock = Clock()
        self.pool: Pool = pool_of(3, self.clock)
        self.journal = Journal(keep=keep, sample=sample, rng=random.Random(1), wall=lambda: 1234.5)
        self.director = Director(
            {"llama": self.pool},
            make_scheduler(decides),
            detector=Utilization(),
            objectives={},
            clock=self.clock,
            rng=random.Random(1),
            observer=Silent(),
            state=Alone(),
            journal=self.journal,
        )

    def load(self, slot: int, waiting: int) -> None:
        self.pool.observe(address(slot), Metrics(waiting=waiting, scraped_at=self.clock()))

    def kept(self) -> Any:
        return json.loads(self.journal.page())


def test_everything_that_was_looked_at_is_there():
    """Candidates with metrics, load, match and scores; the sentence; what plugins read of the headers."""
    rig = Rig(config("queue-scorer", "prefix-cache-scorer"))
    rig.load(0, 5)
    rig.load(1, 10)
    reservation = rig.director.pick(Ask(digest(text(500, 1)), headers=ASKED, fairness="me"))
    (kept,) = rig.kept()
    assert kept["id"] == reservation.id
    assert kept["chosen"][0] == address(2)
    assert kept["why"].startswith(
        "highest total: 1.000 against 0.500 of the next; most of it by queue-scorer"
    )
    assert (kept["pool"], kept["profile"], kept["fairness"], kept["at"]) == ("llama", "p", "me", 1234.5)
    assert kept["headers"] == [["x-gateway-explain", "true"], ["x-session-token", "t"]]
    assert kept["digest"]["blocks"] == 7
    assert [one["metrics"]["waiting"] for one in kept["candidates"]] == [5, 10, 0]
    assert [one["scores"]["queue-scorer"] for one in kept["candidates"]] == [
        [0.5, 0.5],
        [0.0, 0.0],
        [1.0, 1.0],
    ]
    assert all(one["load"]["requests"] == 0 and one["estimate_seconds"] > 0 for one in kept["candidates"])
    assert json.loads(reservation.explained)["chosen"][0] == address(2)


def test_no_prompt_and_no_hash_is_kept():
    """A record may leave the machine."""
    rig = Rig(config("queue-scorer"))
    asked = digest(text(500, 1))
    rig.director.pick(Ask(asked, headers=ASKED))
    page = rig.journal.page().decode()
    assert not any(str(block) in page for block in asked.blocks)
    assert "secret" not in page


def test_only_who_asks_or_is_drawn_is_explained():
    """By header or by sample; the last ones are kept, newest first."""
    rig = Rig(config("queue-scorer"))
    assert rig.director.pick(Ask(Digest("m"))).explained == ""
    assert rig.kept() == []
    sampled = Rig(config("queue-scorer"), sample=0.5, keep=3)
    ids = [one.id for one in (sampled.director.pick(Ask(Digest("m"))) for _ in range(40)) if one.explained]
    assert 10 < len(ids) < 30
    assert [one["id"] for one in sampled.kept()] == ids[:-4:-1]


def test_only_who_asks_is_told_itself():
    """A sampled explanation is for the operator: it names servers and their loads."""
    rig = Rig(config("queue-scorer"), sample=1.0)
    sampled = rig.director.pick(Ask(Digest("m")))
    assert (bool(sampled.explained), sampled.answer_headers) == (True, ())
    asked = rig.director.pick(Ask(Digest("m"), headers=ASKED))
    assert asked.answer_headers == (("x-gateway-explain", asked.explained),)


def test_a_refusal_by_a_filter_is_explained_too():
    """With the name of the filter."""
    declared = "plugins:\n- {type: by-label, parameters: {label: gpu, validValues: [h100]}}\n"
    profile = "schedulingProfiles:\n- {name: p, plugins: [{pluginRef: by-label}]}\n"
    decides = parse(HEAD + declared + profile, EndpointPickerConfig)
    rig = Rig(decides)
    with pytest.raises(Unavailable):
        rig.director.pick(Ask(Digest("m"), headers=ASKED))
    (kept,) = rig.kept()
    assert (kept["chosen"], kept["why"]) == ([], "the filter by-label left nobody")
    assert [one["passed"] for one in kept["candidates"]] == [False] * 3


def recorded() -> bytes:
    """Three decisions by the queue: it prefers server 2, whose prefix cache is empty."""
    rig = Rig(config("queue-scorer"))
    rig.pool.set_members(Endpoint(address(slot), {"n": str(slot)}) for slot in range(3))
    rig.pool.prefixes.record(0, digest(text(2000, 1)).blocks)
    rig.load(0, 5)
    rig.load(1, 10)
    for _ in range(3):
        rig.director.pick(Ask(digest(text(2000, 1)), headers=ASKED))
    return rig.journal.page()


def test_the_same_configuration_changes_nothing():
    """Ties included."""
    assert all(change.same for change in replay(read(recorded()), config("queue-scorer")))


def test_another_configuration_is_compared():
    """The prefix cache alone sends them to the server that holds the prompt."""
    first, *_ = list(replay(read(recorded()), config("prefix-cache-scorer")))[::-1]
    assert (first.then, first.now) == (address(2), address(0))
    assert "prefix-cache-scorer" in first.why


def test_lines_are_read_as_well_as_a_list():
    """One decision on each."""
    whole = read(recorded())
    lines = b"\n".join(msgspec.json.encode(one) for one in whole)
    assert read(lines) == whole


@pytest.mark.parametrize("garbage", [b"{}", b"[1]", b"nonsense"])
def test_anything_else_is_refused(garbage):
    """With a sentence."""
    with pytest.raises(ValueError, match="not a record of decisions"):
        read(garbage)
