from __future__ import annotations

import functools
import random
import re
import string

import pytest
import re2

from services.safety.checks import patterns
from services.safety.checks.rules import MAX_WORDS, Rule, RuleError, blocklist, built_in
from services.safety.checks.ruleset import RuleSet
from services.safety.checks.sieve import Engine, Re2Sieve
from services.safety.checks.sieve_hyperscan import Hyperscan
from services.safety.verdict import Finding

RULES = {rule.id: rule for rule in built_in()}
ENGINES: dict[str, Engine] = {"re2": Re2Sieve, "hyperscan": Hyperscan()}
EVERYTHING = {name: RuleSet(built_in(), engine=engine) for name, engine in ENGINES.items()}
engines = pytest.mark.parametrize("engine", ENGINES)
SECRET = "AKIA" + "IOSFODNN7" + "EXAMPLQ"


def whole(sample):
    return sample if isinstance(sample, str) else "".join(sample)


def examples(kind):
    return [
        pytest.param(rule.id, whole(sample), id=f"{rule.id}-{index}")
        for rule in RULES.values()
        for index, sample in enumerate(getattr(rule.examples, kind))
    ]


def pieces(check, parts):
    scanner = check.scanner()
    scans = [scanner.feed(part) for part in parts] + [scanner.feed("", final=True)]
    return [finding for scan in scans for finding in scan.findings]


@functools.cache
def alone(rule, engine):
    return RuleSet([RULES[rule]], engine=ENGINES[engine])


@engines
@pytest.mark.parametrize(("rule", "text"), examples("hit"))
def test_a_rule_finds_its_examples(rule, text, engine):
    """Each rule is proved by its own file."""
    assert [finding.rule for finding in alone(rule, engine).scan(text)] == [rule]


@engines
@pytest.mark.parametrize(("rule", "text"), examples("miss"))
def test_a_rule_passes_over_its_near_misses(rule, text, engine):
    """What only looks like it is not it."""
    assert alone(rule, engine).scan(text) == []


@functools.cache
def fitting(source):
    """Return characters that a class or a literal matches."""
    plain = source if len(source) == 1 else "\u200b"
    return [char for char in plain + string.printable if re.fullmatch(source, char)] or [plain]


def written(node, rng):
    """Return a random text that `node` matches."""
    match node:
        case patterns.Char(source):
            return rng.choice(fitting(source))
        case patterns.Sequence(items):
            return "".join(written(item, rng) for item in items)
        case patterns.Choice(options):
            return written(rng.choice(options), rng)
        case patterns.Repeat(item, low, high):
            most = low + 2 if high is None else min(high, low + 4)
            return "".join(written(item, rng) for _ in range(rng.randint(low, most)))
    return ""


@pytest.mark.parametrize("rule", [rule for rule in RULES.values() if rule.keywords], ids=lambda rule: rule.id)
def test_a_keyword_is_in_every_match(rule):
    """Else a match would be passed over where no keyword stands: two spaces in place of one, for instance."""
    rng, node = random.Random(3), patterns.parse(rule.pattern)
    pattern = re2.compile(f"(?i:{rule.pattern})" if rule.ignore_case else rule.pattern)
    for _ in range(100):
        text = written(node, rng)
        if rule.ignore_case:
            text = "".join(rng.choice([char.upper(), char.lower()]) for char in text)
        if pattern.search(text):
            assert any(keyword.casefold() in text.casefold() for keyword in rule.keywords), text


@engines
@pytest.mark.parametrize(("rule", "text"), examples("hit") + examples("miss"))
def test_cuts_change_no_finding(rule, text, engine):
    """At every position, and in single characters, a stream's findings are those of the whole text."""
    check = EVERYTHING[engine]
    padded = f"né {text} 😀" if engine == "re2" else f"a {text} b"
    expected = sorted(EVERYTHING["re2"].scan(padded), key=repr)
    for cut in range(len(padded) + 1):
        assert sorted(pieces(check, [padded[:cut], padded[cut:]]), key=repr) == expected
    assert sorted(pieces(check, padded), key=repr) == expected


@engines
def test_random_pieces_of_a_text_full_of_matches_change_no_finding(engine):
    """Matches that touch, overlap and fail their checksum are found alike however the text comes."""
    rng = random.Random(7)
    samples = [example.values[1] for example in examples("hit") + examples("miss")]
    for number in range(40):
        other = "é" if number % 2 else "e"
        text = "".join(
            rng.choice(samples)[rng.randint(0, 2) :] + rng.choice(["", " ", "1", other, "-", "\n"])
            for _ in range(12)
        )
        expected = sorted(EVERYTHING["re2"].scan(text), key=repr)
        parts, at = [], 0
        while at < len(text):
            step = rng.randint(1, 9)
            parts.append(text[at : at + step])
            at += step
        assert sorted(pieces(EVERYTHING[engine], parts), key=repr) == expected


def test_clean_text_is_settled_at_once():
    """Nothing is held of words that no secret begins with."""
    secrets = RuleSet([rule for rule in built_in() if rule.category == "secret"])
    scanner = secrets.scanner()
    assert [scanner.feed(word).settled for word in ("Now ", "then, ", "there ")] == [4, 10, 16]


def test_offsets_are_characters():
    """Text before a match may take several bytes each, or be half a surrogate pair."""
    rules = RuleSet([RULES["aws-access-key"]])
    assert rules.scan(f"é😀\ud83d {SECRET}") == [Finding("aws-access-key", 4, 24, "secret")]


def test_a_blocklist_finds_whole_words_in_any_case():
    """Phrases may be spaced out or broken over lines; parts of words do not count."""
    check = RuleSet([blocklist("names", ["Project X-1", "zeta", "naïve"])])
    found = check.scan("project\n  x-1, ZETA zetas project x-11 NAÏVE K")
    assert sorted((finding.start, finding.end) for finding in found) == [(0, 13), (15, 19), (39, 44)]


@pytest.mark.parametrize("words", [[], [""], ["a", " "], ["word"] * (MAX_WORDS + 1)])
def test_a_blocklist_that_cannot_run_is_refused(words):
    """An empty word would stand everywhere, and too many cost every chunk of a stream."""
    with pytest.raises(RuleError, match="names"):
        blocklist("names", words)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pattern": "(a)"}, "subset"),
        ({"max_length": 3}, "expected 2"),
        ({"validator": "crc"}, "luhn"),
        ({"pattern": "[z-a]a"}, "r1"),
    ],
)
def test_a_rule_that_cannot_run_is_refused_by_name(change, message):
    """At start, not at the first request."""
    fields = {"id": "r1", "description": "", "category": "c", "pattern": "aa", "max_length": 2} | change
    with pytest.raises(RuleError, match=message) as error:
        RuleSet([Rule(**fields)])
    assert "r1" in str(error.value)


def test_keyword_and_pattern_agree_about_case():
    """Signs that fold to ASCII letters do not slip past the keywords."""
    check = RuleSet([blocklist("names", ["kiss"])])
    assert check.scan("KI\u017fS") != []


def test_many_matches_in_one_text_are_all_found():
    """A text of nothing but addresses, none of it in ASCII, has each of them."""
    check = RuleSet([RULES["email"]])
    assert len(check.scan("é a@b.org " * 2000)) == 2000
