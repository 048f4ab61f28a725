from __future__ import annotations

import pytest

from services.safety.checks.urls import host, urls
from tests.safety.checks.follow import spans

ALLOWED = urls({"allow": ["example.com", "*.docs.example"]})
DENIED = urls({"deny": ["evil.example", "203.0.113.9"]})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see https://example.com/a?b#c.", []),
        ("see https://www.example.com:8443/ or http://a.docs.example", []),
        ("see http://example.com.evil.net/x now", ["http://example.com.evil.net/x"]),
        ("![x](https://evil.net/p?q=1) end", ["https://evil.net/p?q=1)"]),
        ("https://example.com@evil.net/", ["https://example.com@evil.net/"]),
        ("HTTPS://EXAMPLE.COM/ wss://evil.net", ["wss://evil.net"]),
        ("no address: example.net, a://b", []),
        ('{"u":"https://evil.net/"}', ["https://evil.net/"]),
    ],
)
def test_an_address_that_no_list_allows_is_found(text, found):
    """Whatever stands before the host; a domain allows what is below it, not what ends alike."""
    assert spans(ALLOWED, text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("go to evil.example now", ["evil.example"]),
        ("https://a.b.Evil.Example/x", ["Evil.Example"]),
        ("ping 203.0.113.9!", ["203.0.113.9"]),
        ("notevil.example, not-evil.example, evil.example.org, evil.examples, evil-example", []),
        ("at evil.example.", ["evil.example"]),
    ],
)
def test_a_denied_domain_is_found_without_a_scheme_too(text, found):
    """As a whole domain or below a longer name, never as part of another one."""
    assert spans(DENIED, text) == found


def test_both_lists_work_together():
    """Each finding carries the list that it comes of."""
    check = urls({"allow": ["example.com"], "deny": ["bad.example.com"]})
    text = "https://bad.example.com/ https://other.net/"
    assert {one.rule for one in check.scan(text)} == {"url-denied", "url-not-allowed"}


@pytest.mark.parametrize(
    "parameters",
    [{}, {"allow": "a.b"}, {"deny": [1]}, {"deny": ["a b"]}, {"deny": ["a.b"], "x": 1}, {"allow": []}],
)
def test_parameters_that_mean_nothing_are_refused(parameters):
    """At start."""
    with pytest.raises(ValueError, match=r"expected|not a domain"):
        urls(parameters)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://EXAMPLE.com.:80/x", "example.com"),
        ("\\nhttps://a@b.c/", "b.c"),
        ("https://exam\u3002ple/", "exam.ple"),
        ("https://\uff45x.com", "ex.com"),
        ("https://[::1", ""),
        ("nothing", ""),
    ],
)
def test_a_host_is_read_as_a_browser_reads_it(url, name):
    """No user, no port, no last dot; full-width letters and dots are folded."""
    assert host(url) == name
