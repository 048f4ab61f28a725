"""The picker rewrites models where it reads bodies itself, and nowhere else."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from services.epp.config import EndpointPickerConfig
from services.epp.pool import Pool
from services.epp.records import Rewritten, Silent
from services.epp.rewrite_config import tables
from services.epp.rewrites import Rewriter
from services.epp.service import EndpointPicker
from services.extproc.config import parse
from services.extproc.script import Script, at_every_cut
from services.openai.digest import Digest, decode, encode, hash_prompt
from tests.epp.world import Clock, director_of, pool_of

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
RULES = """
rewrites:
- name: canary
  rules:
  - matches: [{model: {type: Exact, value: chat}}]
    targets: [{modelRewrite: old, weight: 90}, {modelRewrite: new, weight: 10}]
- name: rename
  rules:
  - matches: [{model: {value: asked}}, {model: {value: other}}]
    targets: [{modelRewrite: served}]
"""
GENERIC = "- {name: rest, rules: [{targets: [{modelRewrite: served}]}]}\n"
HEADERS = ("x-gateway-model-name-rewrite", "x-llm-d-model-name-rewrite")
BODY = (
    b'{ "big":12345678901234567890, "model" :  "asked","messages":[{"role":"user","content":"model asked"}]}'
)
AFTER = BODY.replace(b'"asked",', b'"served",')


class Notes(Silent):
    def __init__(self) -> None:
        self.rewritten: list[Rewritten] = []
        self.unread_in: list[str] = []

    def rewrote(self, rewritten: Rewritten) -> None:
        self.rewritten.append(rewritten)

    def unread(self, pool: str) -> None:
        self.unread_in.append(pool)


class Rig:
    def __init__(self, rules: str = RULES, *, pools: tuple[str, ...] = ("llama",), seed: int = 1) -> None:
        clock = Clock()
        self.pools: list[Pool] = [pool_of(2, clock, name=name) for name in pools]
        self.notes = Notes()
        config = parse(HEAD + rules, EndpointPickerConfig)
        self.service = EndpointPicker(
            director_of(*self.pools, clock=clock),
            rewriter=Rewriter(random.Random(seed), tables(config.rewrites, pools)),
            observer=self.notes,
        )

    @property
    def models(self) -> list[str]:
        """What in-flight requests are counted for."""
        return [entry.model for pool in self.pools for entry in pool.inflight]


def asking(model: str, **more: object) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": "hi " * 100}], **more}
    return json.dumps(body).encode()


async def chosen(rig: Rig, body: bytes, headers: dict[str, str] | None = None) -> str:
    """Return the model in the body that goes upstream."""
    sent = await Script(rig.service).request(headers or {}, body)
    assert sent.complete
    return str(json.loads(sent.body)["model"])


@pytest.mark.parametrize("mode", ["BUFFERED", "STREAMED", "FULL_DUPLEX_STREAMED"])
async def test_the_models_bytes_change_and_no_other_however_the_body_is_cut(mode):
    """In every body mode; the length is right, and the load counts for the target."""

    async def run(cut):
        rig = Rig()
        script = Script(rig.service, request_body=mode, early=mode == "STREAMED")
        sent = await script.request({}, BODY, cut=cut)
        assert sent.complete
        assert rig.models == ["served"]
        assert mode != "BUFFERED" or sent.set_headers["content-length"] == str(len(AFTER))
        return sent.body

    assert await at_every_cut(run, BODY) == AFTER


async def test_the_digest_is_the_targets():
    """Another name for a model finds the prefix that the model's own name left, as with a router in front."""
    rig = Rig()
    prompt = json.dumps([{"role": "user", "content": "hi " * 100}])[1:-1].encode()
    await Script(rig.service).request({}, asking("served"))
    await Script(rig.service).request({}, asking("asked"))

    first, second = rig.pools[0].inflight
    assert first.blocks == second.blocks == hash_prompt([prompt], model="served")
    assert rig.pools[0].prefixes.match(first.blocks) == {0: len(first.blocks), 1: len(first.blocks)}


async def test_exact_comes_before_generic_and_then_the_first_counts():
    """In the order of the file; a generic rule takes what no exact one takes."""
    late = "- {name: late, rules: [{matches: [{model: {value: asked}}], targets: [{modelRewrite: never}]}]}\n"
    rig = Rig("rewrites:\n" + GENERIC + RULES.partition("rewrites:\n")[2] + late)

    assert await chosen(rig, asking("asked")) == "served"
    assert await chosen(rig, asking("anything")) == "served"
    assert rig.notes.rewritten == [
        Rewritten("rename", "asked", "served"),
        Rewritten("rest", "anything", "served"),
    ]


@pytest.mark.parametrize("header", HEADERS)
async def test_the_header_counts_only_where_no_rule_matches(header):
    """Under both names; it is no decision of a rule."""
    rig = Rig()

    assert await chosen(rig, asking("mine"), {header: "theirs"}) == "theirs"
    assert await chosen(rig, asking("asked"), {header: "theirs"}) == "served"
    assert await chosen(rig, asking("mine")) == "mine"
    assert await chosen(rig, asking("mine"), {header: " "}) == "mine"
    assert rig.notes.rewritten == [Rewritten("rename", "asked", "served")]


async def test_targets_share_by_weight_and_the_seed_decides():
    """Within 4.5 standard deviations; the same seed chooses the same."""
    rigs = [Rig(seed=seed) for seed in (1, 1, 2)]
    one, same, other = [[await chosen(rig, asking("chat")) for _ in range(1000)] for rig in rigs]

    assert one == same != other
    assert abs(Counter(one)["new"] - 100) < 4.5 * (1000 * 0.1 * 0.9) ** 0.5


async def test_a_sticky_rewrite_keeps_a_users_target():
    """As the router's do."""
    rig = Rig(RULES.replace("- name: canary\n", "- name: canary\n  sticky: user\n"))
    users = {n: {await chosen(rig, asking("chat", user=f"u{n}")) for _ in range(4)} for n in range(40)}

    assert all(len(targets) == 1 for targets in users.values())
    assert len(set.union(*users.values())) == 2


async def test_a_rewrite_of_one_pool_leaves_the_others_alone():
    """Each pool has its own models."""
    rig = Rig(RULES.replace("- name: rename\n", "- name: rename\n  pool: a\n"), pools=("a", "b"))

    for pool, model in (("a", "served"), ("b", "asked")):
        sent = await Script(rig.service, context={"x-gateway-pool": pool}).request({}, BODY)
        assert json.loads(sent.body)["model"] == model


async def test_what_a_router_in_front_has_read_is_not_rewritten_again():
    """Its digest says so, and its own rules have been applied."""
    rig = Rig("rewrites:\n" + GENERIC)
    attached = {"gw.bbr": {"digest": encode(Digest("asked"))}}
    for mode in ("NONE", "BUFFERED", "FULL_DUPLEX_STREAMED"):
        script = Script(rig.service, request_body=mode)
        assert (await script.request({HEADERS[0]: "x"}, BODY, metadata=attached)).body == BODY

    assert rig.models == ["asked"] * 3
    assert (rig.notes.rewritten, rig.notes.unread_in) == ([], [])
    assert decode(attached["gw.bbr"]["digest"]).model == "asked"


async def test_a_body_that_nobody_reads_keeps_its_model_and_is_counted():
    """Headers only and no digest: where rules or the header would have counted, and nowhere else."""
    rig = Rig()
    assert (await Script(rig.service, request_body="NONE").request({}, BODY)).body == BODY
    assert rig.notes.unread_in == ["llama"]
    await Script(rig.service, request_body="NONE").request({":method": "GET", ":path": "/v1/models"})
    assert rig.notes.unread_in == ["llama"]

    plain = Rig("")
    await Script(plain.service, request_body="NONE").request({}, BODY)
    assert plain.notes.unread_in == []
    await Script(plain.service, request_body="NONE").request({HEADERS[1]: "x"}, BODY)
    assert plain.notes.unread_in == ["llama"]


ANSWER = b'{"id":"1", "choices":[{"message":{"content":"served","model":"served"}}],\n "model" :"served","usage":{"prompt_tokens":7,"completion_tokens":2}}'
EVENTS = (
    b'data: {"id":"1","model":"served","choices":[{"delta":{"content":"\\"model\\":\\"served\\""}}]}\n\n'
    b'event: x\ndata: {"type":"response.created","response":{"model" : "served"}}\n\n'
    b'data: {"type":"message_start","message":{"model" : "served"}}\n\ndata: [DONE]\n\n'
)
STREAM = {"content-type": "text/event-stream"}


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "BUFFERED"])
@pytest.mark.parametrize(
    ("headers", "body", "after"),
    [
        ({}, ANSWER, ANSWER.replace(b'"model" :"served"', b'"model" :"asked"')),
        (
            STREAM,
            EVENTS,
            EVENTS.replace(b'"1","model":"served"', b'"1","model":"asked"').replace(
                b'"model" : "served"', b'"model" : "asked"'
            ),
        ),
        ({"content-type": "audio/mpeg"}, ANSWER, ANSWER),
        ({"content-encoding": "gzip"}, ANSWER, ANSWER),
    ],
    ids=["plain", "events", "other", "compressed"],
)
async def test_the_client_sees_its_own_name_however_the_answer_is_cut(mode, headers, body, after):
    """In every dialect, streamed or not; nothing else changes, and the load ends with the answer."""

    async def run(cut):
        rig = Rig()
        script = Script(rig.service, request_body="BUFFERED", response_body=mode)
        await script.request({}, BODY)
        answer = await script.response(200, headers, body, cut=cut)
        assert answer.complete
        assert script.close().reason == ""
        assert rig.models == []
        return answer.body

    assert await at_every_cut(run, body) == after


async def test_a_model_that_was_not_rewritten_is_not_touched_in_the_answer():
    """Whatever name the server gives."""
    script = Script(Rig().service, response_body="FULL_DUPLEX_STREAMED")
    await script.request({}, asking("served"))
    assert (await script.response(200, {}, ANSWER)).body == ANSWER


async def test_an_answer_that_is_too_long_to_hold_passes_with_the_servers_name():
    """Rather than not at all."""
    script = Script(Rig().service, response_body="FULL_DUPLEX_STREAMED")
    await script.request({}, BODY)
    long = ANSWER[:-1] + b" " * 17 * 2**20 + b"}"
    answer = await script.response(200, {}, long, cut=range(2**20, len(long), 2**20))
    assert answer.complete
    assert answer.body == long
