"""Follow a text through a check's scanner."""

from __future__ import annotations


def followed(check, parts):
    """Return the findings of a stream, having seen that nothing was settled before it was told."""
    scanner, found, settled = check.scanner(), [], 0
    for part, final in [*((part, False) for part in parts), ("", True)]:
        scan = scanner.feed(part, final=final)
        assert settled <= scan.settled
        assert all(settled <= finding.start for finding in scan.findings)
        settled = scan.settled
        found += scan.findings
    return found


def alike_at_every_cut(check, text):
    """Return the findings of `text`, having seen that no cut changes them."""
    expected = list(check.scan(text))
    for cut in range(len(text) + 1):
        assert followed(check, [text[:cut], text[cut:]]) == expected
    assert followed(check, text) == expected
    return expected


def spans(check, text):
    """Return the found parts of `text`, at every cut."""
    return [text[one.start : one.end] for one in alike_at_every_cut(check, text)]
