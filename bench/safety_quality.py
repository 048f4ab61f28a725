"""How good the built-in safety rules are: recall and false positives per labelled set. Run by `make bench-safety`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import msgspec

from bench.quality import report, score
from bench.quality.cost import costs
from bench.quality.sets import LabelledSet, load
from bench.quality.tricks import tricks
from services.safety.canonical.check import Canonical
from services.safety.checks.rules import built_in
from services.safety.checks.ruleset import RuleSet

RESULT = Path(__file__).parent / "results/safety_quality.json"
PAGE = Path(__file__).parents[1] / "docs/safety-quality.md"


def measure(sets: Sequence[LabelledSet], progress: Callable[[str], None]) -> report.Quality:
    """Scan all sets with all rules at once, as a policy that names every category would."""
    bare = RuleSet(built_in())
    viewed = Canonical(bare)
    scored = []
    for one in sets:
        progress(f"{one.name}: {len(one.samples)} samples")
        scored.append(score.score(one, viewed))
    progress("attacks written otherwise")
    attacks = [sample.text for one in sets for sample in one.samples if sample.attack]
    progress("CPU time")
    return report.Quality(
        rules=len(built_in()),
        rates=[rate for one in scored for rate in score.rates(one)],
        variants=[variant for one in scored for variant in score.variants(one)],
        kinds=[kind for one in scored for kind in score.kinds(one)],
        tricks=tricks(attacks, viewed, bare),
        false_positives=[found for one in scored for found in score.false_positives(one)],
        costs=list(costs(sets)),
    )


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), default=RESULT, help="Where the JSON goes.")
@click.option("--page", type=click.Path(path_type=Path), default=PAGE, help="The page that gets the tables.")
@click.option("--show", is_flag=True, help="Print each false positive of the half that rules are tuned on.")
def main(folder: Path, output: Path, page: Path, *, show: bool) -> None:
    """Judge the labelled sets in FOLDER with the built-in rules."""
    quality = measure(load(folder), lambda what: print(f"bench: {what}", file=sys.stderr))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(msgspec.json.format(msgspec.json.encode(_textless(quality)), indent=1) + b"\n")
    tables = report.tables(quality)
    page.write_text(report.put(page.read_text(), tables))
    print(tables)
    for found in quality.false_positives if show else ():
        if not found.held_out:
            print(f"{found.set}[{found.index}] {found.rule}: {found.text!r}")


def _textless(quality: report.Quality) -> report.Quality:
    """Return the figures without words of the sets, which are others' work: index and rule find them again."""
    found = [msgspec.structs.replace(one, text="") for one in quality.false_positives]
    return msgspec.structs.replace(quality, false_positives=found)


if __name__ == "__main__":
    main()
