"""Results as Markdown: the generated part of docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bench.routing.cells import Capacity, Result
from bench.routing.policies import DEFAULT, ORACLE
from bench.routing.verdict import (
    HIGHER,
    LOWER,
    WITHIN,
    Table,
    cells_of,
    hindsight,
    losses,
    means,
    promises,
)
from bench.routing.workloads import WORKLOADS

MOST_LOSSES = 60
SHOWN = (DEFAULT, "round-robin", ORACLE)
"""The policies of the summary."""
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "TTFT p50 / p90 / p99, ms": ("ttft_p50", "ttft_p90", "ttft_p99"),
    "TPOT p50 / p90 / p99, ms": ("tpot_p50", "tpot_p90", "tpot_p99"),
    "mean, ms": ("e2e_mean",),
    "tokens/s": ("throughput",),
    "in time": ("goodput",),
    "hits": ("hits",),
    "imbalance": ("imbalance",),
}


def markdown(results: Sequence[Result], known: Mapping[str, Capacity], note: str) -> str:
    """Return everything that is known of `results`."""
    table = means(results)
    parts = [note, "### In short", _summary(table, known)]
    parts += ["### Everybody by one count", _counts(results), "### Where it loses", _losses(results)]
    parts += ["### Further aims", _promises(table), "### All figures"]
    for workload in dict.fromkeys(workload for workload, _ in cells_of(table)):
        parts += [f"#### {workload}", _about(workload, known), f"![{workload}](benchmarks/{workload}.svg)"]
        parts += [_figures(table, results, at, load) for at, load in cells_of(table) if at == workload]
    return "\n\n".join(parts)


def grid(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """Return a table whose first `words` columns are text and the others numbers."""
    rule = ["---" if number < words else "---:" for number in range(len(head))]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *rows])


def number(value: float) -> str:
    """Return three digits that matter."""
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _summary(table: Table, known: Mapping[str, Capacity]) -> str:
    rows = []
    for workload in dict.fromkeys(workload for workload, _ in cells_of(table)):
        near = [table[workload, "near", policy] for policy in SHOWN if (workload, "near", policy) in table]
        high = [table.get((workload, "high", policy), row) for policy, row in zip(SHOWN, near, strict=False)]
        if len(near) < len(SHOWN):
            continue
        capacity = known[workload]
        rows.append(
            [
                f"[{workload}](#{workload})",
                f"{capacity.round_robin:.4g} / {capacity.oracle:.4g}",
                " / ".join(number(row["ttft_p90"]) for row in near),
                " / ".join(number(row["ttft_p99"]) for row in high),
                " / ".join(f"{row['goodput']:.0%}" for row in high),
                " / ".join(f"{row['hits']:.0%}" for row in high),
                f"{high[0]['ideal_hits']:.0%}",
            ]
        )
    head = [
        "workload",
        "capacity, requests/s: round robin / oracle",
        "near: TTFT p90, ms",
        "high: TTFT p99, ms",
        "high: in time",
        "high: hits",
        "endless cache",
    ]
    return (
        "Three figures are default / round robin / oracle; *high* is *near* where the two are alike.\n\n"
        + grid(head, rows)
    )


def _compared(results: Sequence[Result]) -> int:
    return len(cells_of(means(results))) * len((*LOWER, *HIGHER))


def _counts(results: Sequence[Result]) -> str:
    compared, rows = _compared(results), []
    for policy in dict.fromkeys(result.cell.policy for result in results):
        found = losses(results, policy)
        name = f"**{policy}**" if policy == DEFAULT else policy
        rows.append([name, str(compared - len(found)), str(sum(loss.clear for loss in found))])
    text = (
        f"Of {compared} figures, in how many a policy is best or within {100 * WITHIN:g} % of the best of the others, the oracle "
        "not counted among these; and in how many it is behind by more on every seed. The oracle knows the servers' true state; "
        "its row shows that knowledge alone does not win every figure: who has the least mean time pays with some other."
    )
    ordered = sorted(rows, key=lambda row: -int(row[1]))
    policies = list(dict.fromkeys(result.cell.policy for result in results))
    others = [policy for policy in policies if policy not in (DEFAULT, ORACLE)]
    text += (
        " Nor can all be won by choosing: whoever knew which of the other policies wins most figures of each workload and load, "
        f"and used it there, would have {hindsight(results, others)}; with the default and the oracle to choose from as well, "
        f"{hindsight(results, policies)}."
    )
    return f"{text}\n\n{grid(['policy', 'best or within', 'behind on every seed'], ordered)}"


def _losses(results: Sequence[Result]) -> str:
    found = sorted(losses(results), key=lambda loss: (not loss.clear, -loss.behind))
    compared = _compared(results)
    clear, shown = sum(loss.clear for loss in found), found[:MOST_LOSSES]
    several = len({result.cell.seed for result in results}) > 1
    head = ["workload", "load", "metric", "default", "best", "by", "behind", "on each seed", "its mean time"]
    rows = [
        [
            loss.workload,
            loss.load,
            loss.metric,
            number(loss.value),
            number(loss.best),
            loss.by,
            f"**{loss.behind:.0%}**" if loss.clear else f"{loss.behind:.0%}",
            " / ".join(f"{one:.0%}" for one in loss.seeds),
            f"{loss.pays:.2f} ×",
        ]
        for loss in shown
    ]
    text = (
        f"The default profile is best, or within {100 * WITHIN:g} % of the best policy but the oracle, in "
        f"{compared - len(found)} of {compared} figures."
    )
    if several:
        text += f" In {clear} it is behind by more than that on every seed (bold), in the rest not on all of them."
    text += " *Its mean time* is that policy's mean time of a request against the default's."
    if len(found) > len(shown):
        text += f" The {len(shown)} furthest behind{', bold ones first' if several else ''}:"
    return f"{text}\n\n{grid(head, rows, 3)}" if rows else text


def _promises(table: Table) -> str:
    found = promises(table)
    broken = [one for one in found if not one.holds]
    text = (
        f"{len(found) - len(broken)} of {len(found)} hold: "
        + ", ".join(dict.fromkeys(one.text for one in found))
        + "."
    )
    head = ["aim", "workload", "load", "is", "should be"]
    rows = [[one.text, one.workload, one.load, number(one.value), number(one.bound)] for one in broken]
    return f"{text}\n\n{grid(head, rows, 3)}" if rows else text


def _about(workload: str, known: Mapping[str, Capacity]) -> str:
    about, capacity = WORKLOADS[workload], known[workload]
    fleet = about.fleet
    return (
        f"{about.summary[0].upper()}{about.summary[1:]}. {fleet.servers} servers; within "
        f"{fleet.slo.first_token:g} s + 2 × the prompt's own time until the first token and {1000 * fleet.slo.per_token:g} ms "
        f"per token. Round robin sustains {capacity.round_robin:.4g} requests/s, the oracle {capacity.oracle:.4g}."
    )


def _figures(table: Table, results: Sequence[Result], workload: str, load: str) -> str:
    rates = {r.cell.rate for r in results if (r.cell.workload, r.cell.load) == (workload, load)}
    rows = []
    for (at, point, policy), row in table.items():
        if (at, point) != (workload, load):
            continue
        name = f"**{policy}**" if policy == DEFAULT else policy
        rows.append(
            [name, *(_cell(row, names) for names in COLUMNS.values()), _shed(results, at, point, policy)]
        )
    head = ["", *COLUMNS, "refused"]
    if not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    title = f"<summary>{load}: {max(rates):.4g} requests/s</summary>"
    return f"<details>{title}\n\n{grid(head, rows)}\n\n</details>"


def _cell(row: Mapping[str, float], names: Sequence[str]) -> str:
    if names in (("goodput",), ("hits",)):
        return f"{row[names[0]]:.1%}"
    return " / ".join(number(row[name]) for name in names)


def _shed(results: Sequence[Result], workload: str, load: str, policy: str) -> str:
    cell = (workload, load, policy)
    shed = next(r.row.shed for r in results if (r.cell.workload, r.cell.load, r.cell.policy) == cell)
    return ", ".join(f"{name} {share:.0%}" for name, share in shed.items() if share)
