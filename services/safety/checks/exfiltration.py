"""Check `url-exfiltration`: an address in the answer that carries the prompt's data to its host.

    checks:
      exfiltration: {type: url-exfiltration, parameters: {allow: [example.com]}}

An injected instruction has the model write a picture or a link such as `https://host/?q=<what the user said>`; the
client fetches it, and the data is gone. Data is what stands in the query, the fragment, the path or the host's labels
and also in the prompt: `RUN` letters and digits in a row, or a whole value of `SHORT` with a digit in it (a number, a
key), as it is or behind the encodings that the canonical view undoes. An address that the prompt itself holds is an
echo. A search link with the user's own words is found too: name such hosts in `allow`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import unquote_plus

from services.openai.texts import Text
from services.safety.canonical.views import views
from services.safety.checks.base import Check
from services.safety.checks.proved import Proved
from services.safety.checks.ruleset import RuleSet
from services.safety.checks.urls import domains_of, host, under, url_rule
from services.safety.verdict import Confidence

NAME = "url-exfiltration"
RUN = 16  # characters; shorter runs are words that any two texts share
SHORT = 6  # characters of a value with a digit: an order number, a code from a message
_STEP = RUN // 3
_LOOKED_AT = 4096  # characters of one value
_PARTS = re.compile(r"[/?&#=;,]|\.(?=[^/?&#]*(?:/|$))")


class UrlExfiltration:
    """Binds the search for addresses to a prompt."""

    def __init__(self, parameters: Mapping[str, object]) -> None:
        if set(parameters) - {"allow"}:
            raise ValueError("expected `allow`, a list of domains, or nothing")
        self._allow = domains_of(parameters, "allow")
        self._rules = RuleSet([url_rule(NAME)])

    def bind(self, prompt: Sequence[Text]) -> Check:
        """Return the check of the answer to `prompt`."""
        said = [text.value for text in prompt if text.scannable]
        plain = _plain("\n".join(said))

        def carries(found: str) -> bool:
            url = found[found.find("://") :]
            if under(host(found), self._allow) or any(url in text for text in said):
                return False
            return any(_holds(plain, value) for value in _values(url))

        return Proved(self._rules, carries, NAME, Confidence.MEDIUM)


def _values(url: str) -> Iterator[str]:
    """Yield the parts of an address, each as a server would read it and behind its encodings."""
    for part in _PARTS.split(url.removeprefix("://")):
        value = unquote_plus(part)
        yield value
        yield from (view.text for view in views(value))


def _holds(plain: str, value: str) -> bool:
    short = _plain(value[:_LOOKED_AT])
    if len(short) >= SHORT and any(map(str.isdigit, short)) and short in plain:
        return True
    piece = RUN - _STEP + 1
    return (
        any(short[at : at + piece] in plain for at in range(0, len(short) - piece + 1, _STEP))
        if len(short) >= RUN
        else False
    )


def _plain(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))
