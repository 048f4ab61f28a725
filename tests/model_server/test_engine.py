"""The engine in virtual time: what a vLLM does to a request, reckoned by hand."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest

from tools.model_server.constants import LLAMA_8B_H100, SMG_MOCK, Profile
from tools.model_server.engine import DoesNotFit, Engine, Request

ROUND = Profile(
    prefill_rate=1_000,
    decode_base=0.010,
    decode_per_sequence=0.001,
    kv_blocks=64,
    block_size=16,
    max_batched_tokens=256,
    max_sequences=8,
    adapter_slots=1,
    adapter_load=0.5,
)
"""Figures that are easy to reckon with."""


def engine(**changes):
    return Engine(dataclasses.replace(ROUND, **changes))


def ask(request_id, prompt=16, output=1, blocks=(), adapter=""):
    return Request(request_id, prompt, output, blocks, adapter)


def run(subject, until=math.inf):
    """Advance from change to change; return all progress."""
    progress = []
    while subject.next_change <= until and subject.next_change < math.inf:
        progress += subject.advance(subject.next_change)
    return progress


def finish_times(progress):
    return {p.id: pytest.approx(p.at) for p in progress if p.finished}


def test_the_first_token_comes_when_the_prompt_is_computed():
    """200 tokens at 1,000 per second, then a decode step of 10 + 1 ms for each further token."""
    subject = engine()
    subject.submit(ask("a", prompt=200, output=3), 1.0)
    progress = run(subject)
    assert progress[0].first
    assert progress[0].at == pytest.approx(1.2)
    assert finish_times(progress) == {"a": 1.222}
    assert sum(p.tokens for p in progress) == 3


def test_a_long_prompt_is_computed_in_chunks():
    """The token budget of a step is 256: 600 tokens take three steps, and the last one yields the first token."""
    subject = engine()
    subject.submit(ask("a", prompt=600), 0.0)
    assert subject.advance(0.511) == []
    assert finish_times(subject.advance(0.6)) == {"a": 0.6}
    assert subject.counters.steps == 3


def test_decoding_goes_on_beside_a_long_prompt():
    """Chunked prefill: a running answer gets a token in every step, a slow one."""
    subject = engine()
    subject.submit(ask("a", output=20), 0.0)
    run(subject, until=0.016)
    subject.submit(ask("b", prompt=500), 0.02)
    tokens = [p.at for p in subject.advance(0.6) if p.id == "a"]
    assert tokens[:3] == pytest.approx([0.027, 0.027 + 0.255 + 0.001, 0.283 + 0.245 + 0.001])


def test_a_bigger_batch_decodes_more_slowly_and_does_more():
    """Four answers side by side take 14 ms a step where one takes 11."""
    alone, batch = engine(), engine()
    alone.submit(ask("a", output=11), 0.0)
    for name in "abcd":
        batch.submit(ask(name, output=11), 0.0)
    last_alone = run(alone)[-1].at
    last_batch = run(batch)[-1].at
    assert last_alone == pytest.approx(0.016 + 10 * 0.011)
    # the first prompt alone, then the three others beside its first decode step
    assert last_batch == pytest.approx(0.016 + 0.049 + 9 * 0.014 + 0.013)


def test_context_slows_decoding():
    """KV pressure: each token of context is read in every step."""
    short, long = engine(context_read=1e-5), engine(context_read=1e-5)
    short.submit(ask("a", prompt=16, output=2), 0.0)
    long.submit(ask("a", prompt=250, output=2), 0.0)

    def step(subject):
        first, second = run(subject)
        return second.at - first.at

    assert step(short) == pytest.approx(0.011 + 16e-5)
    assert step(long) == pytest.approx(0.011 + 250e-5)


def test_a_repeated_prompt_is_read_from_the_cache():
    """All full blocks but the one with the last token are found: 32 of 48 tokens."""
    subject = engine()
    for name in "ab":
        subject.submit(ask(name, prompt=48, blocks=(1, 2, 3)), 0.0 if name == "a" else 1.0)
        progress = run(subject)
    assert [(p.id, p.cached_tokens) for p in progress] == [("b", 32)]
    assert progress[0].at == pytest.approx(1.016)
    assert (subject.counters.cache_queries, subject.counters.cache_hits) == (96, 32)


def test_siblings_in_one_step_compute_once_what_they_share():
    """240 tokens of 224 that all three share: the first computes 240, the others 16 each."""
    subject = engine(max_batched_tokens=1024)
    shared = tuple(range(14))
    for number, name in enumerate("abc"):
        subject.submit(ask(name, prompt=240, blocks=(*shared, 100 + number)), 0.0)
    # The engine is idle: the first begins alone, and the others join the step after it.
    progress = run(subject)

    assert {p.id: p.cached_tokens for p in progress if p.first} == {"a": 0, "b": 224, "c": 224}
    assert finish_times(progress) == {"a": 0.24, "b": 0.272, "c": 0.272}


@pytest.mark.parametrize("budget", [256, 1024])
def test_siblings_that_wait_together_compute_once_what_they_share(budget):
    """Behind another prompt of 200 tokens: 240 + 16 + 16 tokens are computed after it, whatever fits into a step."""
    subject = engine(max_batched_tokens=budget)
    subject.submit(ask("before", prompt=200), 0.0)
    for number, name in enumerate("abc"):
        subject.submit(ask(name, prompt=240, blocks=(*range(14), 100 + number)), 0.001)
    progress = run(subject)

    assert {p.id: p.cached_tokens for p in progress if p.first and p.id != "before"} == {
        "a": 0,
        "b": 224,
        "c": 224,
    }
    assert max(p.at for p in progress) == pytest.approx(0.2 + 0.272, abs=0.011)


def test_the_next_turn_finds_the_answer_too():
    """Generated blocks are cached under the hashes of the text they hold."""
    subject = engine()
    subject.submit(ask("a", prompt=16, output=33, blocks=(1, 2, 3)), 0.0)
    run(subject)
    subject.submit(ask("b", prompt=64, blocks=(1, 2, 3, 4)), 9.0)
    assert run(subject)[0].cached_tokens == 48


def test_a_block_that_was_evicted_is_computed_again():
    """LRU: the prompt unused for longest gives way."""
    subject = engine(kv_blocks=8)
    for at, (name, first) in enumerate([("a", 10), ("b", 20), ("c", 30), ("a2", 10), ("c2", 30)]):
        subject.submit(ask(name, prompt=49, blocks=(first, first + 1, first + 2)), float(at))
        progress = run(subject)
        cached = progress[-1].cached_tokens
        assert (name, cached) in {("a", 0), ("b", 0), ("c", 0), ("a2", 16), ("c2", 48)}


def test_what_does_not_fit_into_the_batch_waits():
    """The ninth request of a batch of eight starts when the first ends."""
    subject = engine()
    for index in range(9):
        subject.submit(ask(str(index), prompt=1, output=10), 0.0)
    subject.advance(0.05)
    assert (subject.running, subject.waiting) == (8, 1)
    run(subject)
    assert (subject.running, subject.waiting) == (0, 0)


def test_without_blocks_a_request_waits():
    """Admission needs blocks for the prompt; they come back when another answer ends."""
    subject = engine(kv_blocks=4)
    subject.submit(ask("a", prompt=48, output=2), 0.0)
    subject.submit(ask("b", prompt=48, output=2), 0.0)
    subject.advance(0.03)
    assert (subject.running, subject.waiting, subject.kv.usage) == (1, 1, 0.75)
    assert list(finish_times(run(subject))) == ["a", "b"]


def test_a_prompt_is_not_admitted_for_its_first_chunk_alone():
    """There is room for 16 tokens of the second prompt's 48, and for a chunk as small: it waits for all of them."""
    subject = engine(kv_blocks=4, max_batched_tokens=16)
    subject.submit(ask("a", prompt=40, output=6), 0.0)
    run(subject, until=0.05)
    subject.submit(ask("b", prompt=48), 0.05)
    subject.advance(0.07)
    assert (subject.running, subject.waiting) == (1, 1)
    assert list(finish_times(run(subject))) == ["a", "b"]
    assert subject.counters.preemptions == 0


def test_when_blocks_run_out_the_youngest_is_preempted_and_computed_again():
    """Two answers grow into the last block: the younger goes back to the queue, and both are whole in the end."""
    subject = engine(kv_blocks=6)
    for name in "ab":
        subject.submit(ask(name, prompt=32, output=40), 0.0)
    progress = run(subject)
    assert subject.counters.preemptions == 1
    assert list(finish_times(progress)) == ["a", "b"]
    produced = {name: sum(p.tokens for p in progress if p.id == name) for name in "ab"}
    assert produced == {"a": 40, "b": 40}
    assert subject.kv.usage == 0


def test_an_adapter_that_has_no_slot_waits_and_others_go_past_it():
    """One slot: the second adapter waits until the first is idle; the base model needs none."""
    subject = engine()
    subject.submit(ask("a", output=30, adapter="red"), 0.0)
    subject.submit(ask("b", output=2, adapter="blue"), 0.0)
    subject.submit(ask("c", output=2), 0.0)
    subject.submit(ask("d", output=2, adapter="red"), 0.0)
    subject.advance(0.53)
    assert (subject.running_adapters(), subject.waiting_adapters()) == (["red"], ["blue"])
    assert [p.id for p in run(subject) if p.finished] == ["c", "d", "a", "b"]


def test_loading_an_adapter_costs_time_once():
    """The first request with it waits half a second longer."""
    subject = engine()
    for name, at in (("a", 0.0), ("b", 5.0)):
        subject.submit(ask(name, adapter="red"), at)
        progress = run(subject)
        assert finish_times(progress) == {name: {"a": 0.516, "b": 5.016}[name]}


def test_cancelling_frees_blocks_and_lets_others_in():
    """A client that left costs nothing more, running or waiting."""
    subject = engine(kv_blocks=4)
    for name in "abc":
        subject.submit(ask(name, prompt=48, output=2), 0.0)
    assert subject.cancel("b", 0.01)
    assert subject.cancel("a", 0.02)
    assert not subject.cancel("a", 0.02)
    assert subject.kv.usage == 0
    assert list(finish_times(run(subject))) == ["c"]


def test_an_embedding_is_done_with_its_prompt():
    """Nothing is decoded."""
    subject = engine()
    subject.submit(ask("a", prompt=100, output=0), 0.0)
    (progress,) = run(subject)
    assert (progress.tokens, progress.finished, progress.at) == (0, True, pytest.approx(0.1))


def test_a_sequence_longer_than_the_cache_is_refused():
    """It could never run."""
    subject = engine(kv_blocks=4)
    subject.submit(ask("a", prompt=60, output=4), 0.0)
    with pytest.raises(DoesNotFit, match="60 \\+ 5 tokens, 64 fit"):
        subject.submit(ask("b", prompt=60, output=5), 0.0)


def test_a_simulator_hears_of_first_tokens_and_ends_alone():
    """At the times at which everybody else does, and with the same totals."""
    asked = [ask("a", prompt=200, output=40), ask("b", prompt=300, output=90)]
    heard = {}
    for every_token in (True, False):
        subject = Engine(ROUND, every_token=every_token)
        for number, request in enumerate(asked):
            subject.advance(number / 10)
            subject.submit(request, number / 10)
        reports = run(subject)
        heard[every_token] = [(p.id, p.at, p.first) for p in reports if p.first or p.finished]
        assert subject.counters.generation_tokens == 130
    assert heard[True] == heard[False]
    assert len(reports) == 4


def test_the_batch_can_be_looked_at():
    """What is in it, and how far it is."""
    subject = engine()
    subject.submit(ask("a", prompt=200, output=40), 0.0)
    subject.advance(0.5)
    (job,) = subject.batch
    assert (job.request.id, job.computed, job.produced) == ("a", 200, 1)  # as when its run of steps began


def test_an_idle_engine_asks_for_no_wake_up():
    """Nothing to do, nothing to wait for."""
    subject = engine()
    assert (subject.next_token, subject.next_change) == (math.inf, math.inf)
    subject.submit(ask("a"), 0.0)
    run(subject)
    assert (subject.next_token, subject.next_change) == (math.inf, math.inf)
    assert subject.advance(1e9) == []


def test_a_new_request_joins_at_the_end_of_the_step_in_flight():
    """Steps are not interrupted, but decode steps that would follow are."""
    subject = engine()
    subject.submit(ask("a", output=30), 0.0)
    run(subject, until=0.016)
    subject.submit(ask("b"), 0.030)  # between steps that end at 0.027 and 0.038
    assert [p.at for p in run(subject) if p.id == "b"] == pytest.approx([0.038 + 0.016 + 0.001])


def workload(seed, count=60):
    """Draw requests over two seconds, some with shared prefixes and adapters."""
    rng = random.Random(seed)
    requests = []
    for index in range(count):
        start = rng.choice([1, 2, 3]) * 1000
        prompt, output = rng.randint(1, 300), rng.randint(1, 60)
        blocks = tuple(range(start, start + (prompt + output) // 16))
        requests.append(
            (rng.uniform(0, 2), ask(str(index), prompt, output, blocks, rng.choice(["", "red", "blue"])))
        )
    return sorted(requests, key=lambda pair: pair[0])


def simulate(requests, looks):
    """Run `requests`; `looks` are further times at which somebody advances the engine."""
    subject = engine(kv_blocks=48)
    arrivals = dict.fromkeys(looks) | dict(requests)
    progress = []
    for at in sorted(arrivals):
        progress += subject.advance(at)
        if arrivals[at] is not None:
            subject.submit(arrivals[at], at)
    return subject, progress + run(subject)


@pytest.mark.parametrize("seed", range(4))
def test_every_request_gets_all_its_tokens_and_all_blocks_come_back(seed):
    """Under preemption, adapter contention and eviction alike."""
    requests = workload(seed)
    subject, progress = simulate(requests, looks=())
    assert subject.counters.preemptions > 0
    produced = dict.fromkeys((r.id for _, r in requests), 0)
    for p in progress:
        produced[p.id] += p.tokens
    assert produced == {r.id: r.output_tokens for _, r in requests}
    assert (subject.running, subject.waiting, subject.kv.available) == (0, 0, 48)


@pytest.mark.parametrize("seed", range(4))
def test_times_do_not_depend_on_who_looks(seed):
    """The same requests end at the same times however often the engine is advanced: a server and a simulator agree."""
    requests = workload(seed)
    rarely, often = simulate(requests, looks=()), simulate(requests, looks=[i / 997 for i in range(5_000)])
    assert finish_times(often[1]) == {p.id: p.at for p in rarely[1] if p.finished}


def test_a_scaled_profile_is_the_same_engine_faster():
    """Ten times the speed, a tenth of every time."""
    finished = []
    for profile in (LLAMA_8B_H100, LLAMA_8B_H100.scaled(10)):
        subject = Engine(profile)
        subject.submit(ask("a", prompt=5_000, output=50, adapter="red"), 0.0)
        finished.append(run(subject)[-1].at)
    assert finished[0] == pytest.approx(10 * finished[1])


def test_the_published_constants_hold():
    """SMG's mock: 8,000 prompt tokens per second; 6.0 + 0.35 ms per token for a batch of one."""
    subject = Engine(SMG_MOCK)
    subject.submit(ask("a", prompt=8_000, output=101), 0.0)
    progress = run(subject)
    assert progress[0].at == pytest.approx(1.0)
    assert progress[-1].at == pytest.approx(1.0 + 100 * 0.00635)
