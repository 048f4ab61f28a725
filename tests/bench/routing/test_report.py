"""Verdicts, tables and differences of made-up results."""

from __future__ import annotations

import msgspec
import pytest
from click.testing import CliRunner

from bench.routing.cells import Capacity, Cell, Result, rate_of
from bench.routing.diff import changes
from bench.routing.diff import main as diff
from bench.routing.markdown import markdown
from bench.routing.measure import Row
from bench.routing.plots import draw
from bench.routing.policies import POLICIES
from bench.routing.store import Kept, load, save
from bench.routing.verdict import hindsight, losses, means, promises
from bench.routing.workloads import WORKLOADS

ROW = Row(
    requests=100, ttft_p50=10.0, ttft_p90=20.0, ttft_p99=40.0, tpot_p50=5.0, tpot_p90=6.0, tpot_p99=7.0,
    e2e_mean=1000.0, throughput=500.0, keeping_up=1.0, goodput=1.0, hits=0.5, ideal_hits=0.6, imbalance=1.1, retries=0, shed={},
)  # fmt: skip


def results(workload="tenants", point="near", seed=1, **changed):
    """Return one result for each policy, all alike but for `changed`: policy → fields."""
    return [
        Result(
            Cell(workload, point, 10.0, policy, seed),
            msgspec.structs.replace(ROW, **changed.get(policy.replace("-", "_"), {})),
        )
        for policy in POLICIES
    ]


def test_equal_to_the_best_is_no_loss_and_neither_is_two_per_cent():
    """Nor is being behind the oracle."""
    found = results(default={"ttft_p90": 20.4, "goodput": 0.98}, oracle={"ttft_p90": 1.0})

    assert losses(found) == []


def test_a_loss_names_the_metric_and_the_best():
    """More time, or less of the rest, worst first."""
    found = losses(results(default={"ttft_p99": 44.0}, smg={"throughput": 550.0}, random={"ttft_p99": 39.0}))

    assert [(one.metric, one.by) for one in found] == [("ttft_p99", "random"), ("throughput", "smg")]
    assert found[0].behind == pytest.approx(5 / 39)


def test_seeds_are_averaged():
    """A loss on one seed can be a win on another."""
    found = results(default={"ttft_p50": 12.0}) + results(seed=2, default={"ttft_p50": 8.0})

    assert losses(found) == []


def test_a_loss_is_clear_when_every_seed_says_so():
    """Against the same policy, by more than two per cent; one seed alone says nothing."""
    once = results(default={"ttft_p99": 60.0, "tpot_p50": 5.5})
    (tail, median) = losses(once + results(seed=2, default={"tpot_p50": 5.5}))

    assert tail.seeds == pytest.approx((0.5, 0.0))
    assert not tail.clear
    assert median.seeds == pytest.approx((0.1, 0.1))
    assert median.clear
    assert not any(one.clear for one in losses(once))


def test_a_loss_says_what_the_other_pays_for_it():
    """A policy whose requests wait for a place has short times per token."""
    (loss,) = losses(results(session={"tpot_p50": 2.5, "e2e_mean": 3000.0}))

    assert loss.pays == pytest.approx(3.0)


def test_choosing_in_hindsight_is_by_cell_and_not_by_figure():
    """Near, session has a tail that smg has not, and the reverse is true of the median; high, smg is alone."""
    near = results(session={"ttft_p99": 20.0}, smg={"ttft_p50": 5.0})
    high = results(point="high", smg={"ttft_p50": 5.0})

    assert hindsight(near, ["session", "smg"]) == 8
    assert hindsight(near + high, ["session", "smg"]) == 8 + 9
    assert hindsight(near + high, ["session"]) == 8 + 8


def test_everybody_is_counted_alike():
    """The oracle too: it loses to whoever is better at one figure, and nobody loses to it."""
    found = results(default={"ttft_p99": 39.0}, oracle={"ttft_p50": 1.0})

    assert [(one.metric, one.by) for one in losses(found, "smg")] == [("ttft_p99", "default")]
    assert [(one.metric, one.by) for one in losses(found, "oracle")] == [("ttft_p99", "default")]
    counts = markdown(found, {"tenants": Capacity(1.0, 2.0)}, "").partition("### Where")[0].splitlines()[-12:]
    assert "| **default** | 9 | 0 |" in counts
    assert "| oracle | 8 | 0 |" in counts
    assert "| smg | 8 | 0 |" in counts


def test_aims_are_held_or_not():
    """Hits against the oracle's, and half of round robin's wait near saturation."""
    held = {one.text: one.holds for one in promises(means(results(default={"ttft_p90": 9.0, "hits": 0.44})))}

    assert held == {
        "hits at least 0.9 of the oracle's": False,
        "TTFT p90 at most half of round robin's": True,
    }


def test_a_slow_server_is_compared_with_the_fleet_without_one():
    """At the same point of its own load."""
    both = results() + results("half-speed", default={"ttft_p99": 53.0, "tpot_p99": 9.0})
    slow = [one.holds for one in promises(means(both)) if "slow server" in one.text]

    assert slow == [False, True][::-1] or slow == [False, True]
    assert sum(slow) == 1


def test_the_page_has_every_workload_load_and_policy():
    """And bold for the default."""
    both = results() + results(point="high")
    text = markdown(both, {"tenants": Capacity(10.0, 20.0)}, "Note.")

    assert "#### tenants" in text
    assert text.partition("### All figures")[2].count("| **default** |") == 2
    assert all(f"| {policy} |" in text for policy in POLICIES if policy != "default")


def test_equal_results_give_equal_plots(tmp_path):
    """Byte by byte, so that a rebuilt page is no change."""
    first, second = (draw(results(), tmp_path / name)[0].read_bytes() for name in ("a", "b"))

    assert first == second
    assert b"<svg" in first


def test_results_are_kept_as_they_are(tmp_path):
    """All figures come back."""
    save(Kept("stand-ins", results()), tmp_path / "r.json")

    assert load(tmp_path / "r.json") == Kept("stand-ins", results())


def test_a_difference_shows_what_moved_and_how(tmp_path):
    """Less time is better, less throughput worse."""
    old, new = results(), results(default={"ttft_p50": 5.0, "throughput": 400.0, "tpot_p50": 5.05})
    moved = {one.metric: one.factor for one in changes(means(old), means(new), "default", 0.02)}
    assert moved == {"ttft_p50": 2.0, "throughput": 0.8}

    save(Kept("", old), tmp_path / "old.json")
    save(Kept("", new), tmp_path / "new.json")
    shown = CliRunner().invoke(diff, [str(tmp_path / "old.json"), str(tmp_path / "new.json")])
    assert shown.exit_code == 0
    assert "worse 0.80" in shown.output
    assert "better 2.00" in shown.output
    assert "default loses 0 -> 1" in shown.output


def test_loads_are_shares_of_what_was_measured():
    """By name, or as a multiple of round robin's."""
    capacity = Capacity(10.0, 20.0)

    assert rate_of("tenants", "below", capacity) == 5.0
    assert rate_of("tenants", "high", capacity) == 18.0
    assert rate_of("tenants", "past", capacity) == pytest.approx(24.0)
    assert rate_of("priorities", "past", capacity) == pytest.approx(40.0)
    assert rate_of("tenants", "1.1", capacity) == pytest.approx(11.0)


def test_every_workload_has_a_capacity():
    """Measured by `bench.routing.capacity`."""
    from bench.routing.cells import capacities  # noqa: PLC0415 - reads the file

    assert capacities().keys() == WORKLOADS.keys()
    assert all(0 < one.round_robin <= 1.13 * one.oracle for one in capacities().values())
