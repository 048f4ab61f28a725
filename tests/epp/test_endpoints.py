"""Addresses are spelled as Envoy spells them."""

from __future__ import annotations

import pytest

from services.epp.endpoints import Metrics, join, split


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("10.0.0.1", "10.0.0.1:80"),
        ("::1", "[::1]:80"),
        ("2001:DB8::0:1", "[2001:db8::1]:80"),
        ("llama-1", "llama-1:80"),
    ],
)
def test_join_writes_ipv6_in_brackets_and_canonically(host, expected):
    """`override_host` compares text, so there is one spelling."""
    assert expected == join(host, 80)


@pytest.mark.parametrize(("text", "expected"), [("a:1", ("a", 1)), ("[::1]:65535", ("::1", 65535))])
def test_split_is_the_inverse_of_join(text, expected):
    """What was joined comes apart again."""
    assert expected == split(text)
    assert text == join(*expected)


@pytest.mark.parametrize("text", ["", "a", ":80", "a:", "a:b", "::1:80", "a:0", "a:65536", "a:-1", "a:٣"])
def test_split_refuses_what_is_no_address(text):
    """A typo is an error and not another server."""
    with pytest.raises(ValueError, match="expected"):
        split(text)


def test_cache_tokens_are_unknown_without_both_figures():
    """Half a figure is none."""
    assert Metrics(block_size=16, num_blocks=100).cache_tokens == 1600
    assert Metrics(block_size=16).cache_tokens == 0
