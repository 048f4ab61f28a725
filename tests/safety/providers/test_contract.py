"""What every provider promises, over the table of providers: one without a fake fails."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path

import pytest

from services.openai.texts import Kind, Text
from services.safety.judge import Tally
from services.safety.policy import Provider, Side
from services.safety.providers.base import Context
from services.safety.providers.registry import PROVIDERS
from services.safety.remote import Answer, merge
from services.safety.verdict import Action, Direction, State
from tests.safety.providers.fakes import FAKES, NAME, TEXT
from tests.safety.providers.server import BROKEN, MODES, fake_of, serving, speaks

DOCS = Path(__file__).parents[3] / "docs" / "providers.md"
PATIENT, HASTY = 10.0, 0.1  # seconds until the deadline

STATES = {
    "allow": State.JUDGED,
    "block": State.JUDGED,
    "mask": State.JUDGED,
    "skipped": State.SKIPPED,
    "partial": State.PARTIAL,
    "throttled": State.THROTTLED,
    "error": State.ERROR,
    "slow": State.TIMEOUT,
    "malformed": State.ERROR,
    "reset": State.ERROR,
}
KINDS = pytest.mark.parametrize("kind", PROVIDERS)
CASES = [
    pytest.param(kind, mode, id=f"{kind}-{mode}")
    for kind in PROVIDERS
    for mode in MODES
    if kind not in {*FAKES, "grpc"} or speaks(kind, mode)
]


@pytest.fixture(autouse=True)
def _credentials(monkeypatch):
    monkeypatch.setenv("A_SECRET", "s3cret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")


def text(value, role="user", *, at=0):
    return Text(("messages", at, "content"), ("messages", at, "content"), role, Kind.CONTENT, value)


@contextlib.asynccontextmanager
async def provider(fake, **more):
    async with serving(fake) as address:
        auth = {} if fake.kind == "bedrock" else {"auth": {"env": "A_SECRET"}}
        made = PROVIDERS[fake.kind]({**address, **auth, **more})
        try:
            yield made
        finally:
            await made.close()


async def judge(made, *texts, patience=PATIENT):
    deadline = asyncio.get_running_loop().time() + patience
    return await made.judge(texts or [text(TEXT)], Context(Direction.PROMPT, "m", "p", "r-1"), deadline)


def test_every_provider_has_a_fake():
    """And there is no fake without a provider."""
    assert set(FAKES) | {"grpc"} == set(PROVIDERS)


def test_the_manual_says_what_each_provider_can_say():
    """The table in docs/providers.md is the fakes' own."""
    rows = re.findall(r"^\| `([a-z-]+)` \|((?: (?:yes|–) \|){5})$", DOCS.read_text(), re.MULTILINE)
    said = {
        kind: {
            mode for mode, cell in zip(MODES[:5], cells.split("|")[:5], strict=True) if cell.strip() == "yes"
        }
        for kind, cells in rows
    }
    assert said == {kind: {mode for mode in MODES[:5] if speaks(kind, mode)} for kind in PROVIDERS}


@pytest.mark.parametrize(("kind", "mode"), CASES)
async def test_a_verdict_is_what_the_service_said(kind, mode):
    """Allow, block and mask come through; what is not a verdict is a state and never clean."""
    fake = fake_of(kind, mode)
    async with provider(fake, attempts=1) as made:
        verdict = await judge(made, patience=HASTY if mode == "slow" else PATIENT)
    assert verdict.state is STATES[mode]
    assert (verdict.action is Action.BLOCK) == (mode == "block")
    tally = Tally()
    edits = merge([Answer(Provider("far", 1.0), verdict)], [text(TEXT)], Side(), tally)
    assert bool(tally.block) == (mode not in {"allow", "mask"})
    if mode == "mask":
        (after,) = map(str, edits.values())
        assert NAME not in after
        assert after.startswith("my name is ")
        assert after.endswith(", hello")
    assert len(fake.asked) <= 1  # on a busy machine the deadline may pass before a slow one is asked


@KINDS
async def test_a_block_never_repeats_the_text(kind):
    """What goes to the client and the audit record are categories, in the form that policies write."""
    if not speaks(kind, "block"):
        pytest.skip("it does not block")
    async with provider(fake_of(kind, "block")) as made:
        verdict = await judge(made)
    names = [verdict.reason] + [
        part for _, found in verdict.findings for part in (found.rule, found.category)
    ]
    assert all(re.fullmatch(r"[a-z0-9/-]*", name) for name in names), names
    assert NAME.lower() not in " ".join(names)


@KINDS
@pytest.mark.parametrize("mode", ["error", "reset"])
async def test_a_second_try_helps(kind, mode):
    """A 5xx and a broken connection are tried again within the deadline."""
    fake = fake_of(kind, mode, "allow")
    async with provider(fake) as made:
        verdict = await judge(made)
    assert (verdict.action, verdict.state) == (Action.ALLOW, State.JUDGED)
    assert len(fake.asked) == 2


@KINDS
async def test_who_asks_too_often_does_not_ask_again(kind):
    """429 is never retried."""
    fake = fake_of(kind, "throttled", "allow")
    async with provider(fake) as made:
        assert (await judge(made)).state is State.THROTTLED
    assert len(fake.asked) == 1


@KINDS
async def test_a_judge_that_fails_is_left_alone(kind):
    """After so many failures in a row nothing is asked, and that is an error too."""
    fake = fake_of(kind, "error")
    async with provider(fake, attempts=1, breaker_failures=2, breaker_seconds=60) as made:
        states = [(await judge(made)).state for _ in range(4)]
    assert states == [State.ERROR] * 4
    assert len(fake.asked) == 2


@KINDS
async def test_the_credential_goes_where_the_service_looks(kind):
    """By header; Bedrock's is a signature."""
    fake = fake_of(kind, "allow")
    async with provider(fake) as made:
        await judge(made)
    (headers,) = fake.headers
    expected = ("authorization", "Bearer s3cret") if kind == "grpc" else FAKES[kind].header
    if expected is None:
        assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    else:
        assert headers[expected[0]] == expected[1]


@KINDS
async def test_a_connection_is_used_again(kind):
    """Ten judgements in a row, one connection."""
    fake = fake_of(kind, "allow")
    async with provider(fake, cache_seconds=0) as made:
        for _ in range(10):
            await judge(made)
    assert len(fake.asked) == 10
    assert len(fake.peers) == 1


@KINDS
async def test_a_text_longer_than_the_service_takes_is_judged_in_pieces_that_overlap(kind):
    """No character is left out, and none stands only at a piece's edge."""
    fake = fake_of(kind, "allow")
    long = "".join(f"{number:04}." for number in range(100))
    async with provider(fake, size=120, overlap=20) as made:
        verdict = await judge(made, text(long))
    assert verdict.state is State.JUDGED
    sent = [part for call in fake.asked for part in strings(call)]
    for at in range(0, len(long) - 20, 5):
        assert any(long[at : at + 20] in part for part in sent)
    assert all(len(part) <= 120 for part in sent if "." in part)


@KINDS
async def test_only_chosen_roles_are_sent(kind):
    """History and system prompts may stay here."""
    fake = fake_of(kind, "allow")
    async with provider(fake, roles=["user"]) as made:
        verdict = await judge(made, text("the rules", "system"), text("a question", at=1))
    sent = " ".join(part for call in fake.asked for part in strings(call))
    assert verdict.state is State.JUDGED
    assert "a question" in sent
    assert "the rules" not in sent


@KINDS
async def test_an_unknown_parameter_is_refused(kind):
    """By name, before anything is asked."""
    async with serving(fake_of(kind, "allow")) as address:
        with pytest.raises(ValueError, match="colour"):
            PROVIDERS[kind]({**address, "colour": "red"})


@KINDS
async def test_a_credential_that_is_not_there_is_named_at_start(kind, monkeypatch):
    """Not at the first request."""
    monkeypatch.delenv("A_SECRET")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    async with serving(fake_of(kind, "allow")) as address:
        auth = {} if kind == "bedrock" else {"auth": {"env": "A_SECRET"}}
        with pytest.raises(ValueError, match="auth"):
            PROVIDERS[kind]({**address, **auth})


def strings(value):
    """Every string in what a fake was asked."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [part for item in value.values() for part in strings(item)]
    if isinstance(value, list):
        return [part for item in value for part in strings(item)]
    return [one.value for one in getattr(value, "texts", ())]


def test_the_modes_are_the_ones_of_the_table():
    """A mode without an expected state would go unchecked."""
    assert set(STATES) == set(MODES)
    assert set(BROKEN) < set(MODES)
