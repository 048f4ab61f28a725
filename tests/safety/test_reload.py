from __future__ import annotations

import pytest

from services.extproc.config import load
from services.safety.assemble import Assembled, assemble
from services.safety.config import SafetyConfig
from services.safety.reload import Outcome, Reloader

GOOD = "policies: {default: {prompt: {actions: [{match: [RULE], action: block}]}}}\n"


@pytest.fixture
def watched(tmp_path):
    """Return a file, a reloader that follows it, and what it did."""
    path = tmp_path / "safety.yaml"
    path.write_text(GOOD.replace("RULE", "secret"))
    config = load(path, SafetyConfig)
    used: list[Assembled] = []
    reports: list[tuple[Outcome, str]] = []
    reloader = Reloader(
        path,
        config,
        compile_=lambda changed: assemble(changed, {}, ()),
        use=used.append,
        report=lambda outcome, why: reports.append((outcome, why)),
    )
    return path, reloader, used, reports


def write(path, text):
    """Write as an operator does: another file in its place."""
    other = path.with_suffix(".new")
    other.write_text(text)
    other.replace(path)


async def test_an_untouched_file_is_not_read(watched):
    """Looking costs a stat."""
    _, reloader, used, reports = watched
    await reloader.look()
    assert (used, reports) == ([], [])


async def test_a_changed_file_takes_effect(watched):
    """The new policies are compiled and handed over once."""
    path, reloader, used, reports = watched
    write(path, GOOD.replace("RULE", "card"))
    await reloader.look()
    await reloader.look()
    (assembled,) = used
    (reaction,) = assembled.policies.by_name["default"].prompt.actions
    assert reaction.names == {"card"}
    assert reports == [(Outcome.APPLIED, "")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (GOOD.replace("RULE", "crad"), "crad"),
        ("policies: [", "safety.yaml"),
        (
            GOOD.replace("RULE", "card") + "providers: {far: {type: far}}\n",
            "providers: changes only with a restart",
        ),
    ],
)
async def test_a_bad_file_keeps_the_old_policies_and_says_why(watched, text, why):
    """Once; and a good one after it is taken."""
    path, reloader, used, reports = watched
    write(path, text)
    await reloader.look()
    await reloader.look()
    ((outcome, said),) = reports
    assert outcome is Outcome.REFUSED
    assert why in said
    assert used == []
    write(path, GOOD.replace("RULE", "card"))
    await reloader.look()
    assert len(used) == 1


async def test_a_file_that_vanishes_keeps_the_old_policies(watched):
    """Until it is back."""
    path, reloader, used, reports = watched
    path.unlink()
    await reloader.look()
    assert reports[0][0] is Outcome.REFUSED
    write(path, GOOD.replace("RULE", "secret"))
    await reloader.look()
    assert len(used) == 1
