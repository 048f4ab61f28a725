"""Check `urls`: addresses of hosts that are denied, or that no list allows.

    checks:
      links: {type: urls, parameters: {allow: [example.com], deny: [evil.example]}}

A domain stands for itself and all below it. A denied domain is found with or without `https://` before it; an address
that is not allowed only with, because any two words with a dot between them could be one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from services.safety.canonical.characters import fold
from services.safety.checks.rules import Rule
from services.safety.checks.ruleset import RuleSet
from services.safety.checks.validators import Match

CATEGORY = "url"
_SCHEME = "(?:https?|wss?|ftps?)://"
_URL = _SCHEME + r"""[^\s"'<>`|{}\[\]\\^]+"""
_START = re.compile(_SCHEME, re.IGNORECASE)


def urls(parameters: Mapping[str, object]) -> RuleSet:
    """Make the check of its parameters."""
    allow, deny = domains_of(parameters, "allow"), domains_of(parameters, "deny")
    if (not allow and not deny) or set(parameters) - {"allow", "deny"}:
        raise ValueError("expected `allow`, `deny` or both, each a list of domains")
    rules = [url_rule("url-not-allowed", "foreign")] if allow else []
    rules += [_denied(deny)] if deny else []

    def foreign(match: Match) -> bool:
        return not under(host(match.text), allow)

    def stands_alone(match: Match) -> bool:
        inside = match.before == "-" or match.after in {"-", "_"} or match.after.isalnum()
        return not inside and match.text.casefold().lstrip("\\nrt_").endswith(deny)

    return RuleSet(rules, {"foreign": foreign, "stands_alone": stands_alone})


def url_rule(name: str, validator: str | None = None) -> Rule:
    """Return the rule that finds every address with a scheme."""
    return Rule(
        id=name, description="an address", category=CATEGORY, pattern=_URL, word_start=True, ignore_case=True,
        keywords=("://",), validator=validator, max_length=None,
    )  # fmt: skip


def host(text: str) -> str:
    """Return the host of the address in `text` as a browser would go there: no user, no port, folded, in lower case."""
    found = _START.search(text)
    try:
        return (urlsplit(fold(text[found.start() :])).hostname or "").rstrip(".") if found else ""
    except ValueError:  # half a bracket: no browser goes there, and no list allows it
        return ""


def under(name: str, domains: Iterable[str]) -> bool:
    """Say whether the host `name` is one of `domains` or below it."""
    return any(name == domain or name.endswith(f".{domain}") for domain in domains)


def domains_of(parameters: Mapping[str, object], name: str) -> tuple[str, ...]:
    """Return the list of domains that is the parameter `name`; raise `ValueError` for anything else."""
    found = parameters.get(name, ())
    if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found):
        raise ValueError(f"{name}: expected a list of domains")
    domains = tuple(str(one).casefold().removeprefix("*.").strip(".") for one in found)
    for one in domains:
        if not one.isascii() or not one.replace("-", "").replace(".", "").isalnum():
            raise ValueError(f"{name}: {one!r} is not a domain")
    return domains


def _denied(domains: Sequence[str]) -> Rule:
    """Return the rule of denied domains. A label after one makes it another domain, which the validator sees."""
    options = "|".join(re.escape(domain) for domain in sorted(domains, key=len, reverse=True))
    return Rule(
        id="url-denied", description="a denied domain", category=CATEGORY, word_start=True, ignore_case=True,
        pattern=rf"(?:{options})(?:\.[A-Za-z0-9-]{{1,{_LABEL}}})?", keywords=tuple(domains), validator="stands_alone",
        max_length=max(map(len, domains)) + 1 + _LABEL + len("\\n"),
    )  # fmt: skip


_LABEL = 63  # characters: RFC 1035, section 2.3.4
