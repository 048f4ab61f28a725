from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.safety.providers.bedrock import credentials
from services.safety.providers.settings import Auth
from services.safety.providers.sigv4 import Credentials, Scope, sign

WHO = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
AT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("method", "query", "headers", "body", "names", "signature"),
    [
        ("GET", "", {}, b"", "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "", {}, b"", "host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("GET", "?Param2=value2&Param1=value1", {}, b"", "host;x-amz-date", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        ("POST", "", {"My-Header1": "value1"}, b"", "host;my-header1;x-amz-date", "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"),
        ("POST", "", FORM, b"Param1=value1", "content-type;host;x-amz-date", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
    ],
)  # fmt: skip
def test_signatures_are_those_of_the_published_vectors(method, query, headers, body, names, signature):
    """AWS's Signature Version 4 test suite: get-vanilla, post-vanilla, query order, header sort, form body."""
    url = f"https://example.amazonaws.com/{query}"
    signed = sign(method, url, body, headers, WHO, Scope("us-east-1", "service"), AT)
    assert signed == {
        "x-amz-date": "20150830T123600Z",
        "authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}",
    }


def test_a_session_token_is_sent_and_signed():
    """Temporary credentials do without a long-lived key."""
    who = Credentials(WHO.access_key, WHO.secret_key, "token")
    signed = sign("POST", "https://h/", b"", {}, who, Scope("us-east-1", "service"), AT)
    assert signed["x-amz-security-token"] == "token"
    assert "SignedHeaders=host;x-amz-date;x-amz-security-token," in signed["authorization"]


def test_credentials_are_read_again_when_their_file_changes(tmp_path):
    """Rotation needs no restart."""
    path = tmp_path / "credentials"
    path.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b%c\n")
    read = credentials(Auth(file=str(path)), "default")
    assert read() == Credentials("a", "b%c")
    path.write_text("[default]\naws_access_key_id = d\naws_secret_access_key = e\naws_session_token = f\n")
    assert read() == Credentials("d", "e", "f")


def test_a_profile_that_is_not_there_is_named(tmp_path):
    """At start."""
    path = tmp_path / "credentials"
    path.write_text("[other]\n")
    with pytest.raises(ValueError, match="'default'"):
        credentials(Auth(file=str(path)), "default")
