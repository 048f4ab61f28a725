"""Configuration files are read strictly, and say what is wrong where."""

from __future__ import annotations

import msgspec
import pytest

from services.extproc.config import ConfigError, Limits, Listen, Log, Tls, load, parse


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    listen: Listen = msgspec.field(default_factory=lambda: Listen(port=9004))
    log: Log = msgspec.field(default_factory=Log)
    limits: Limits = msgspec.field(default_factory=Limits)


def test_what_is_not_said_has_its_default(tmp_path):
    """An empty file is a configuration."""
    file = tmp_path / "bbr.yaml"
    file.write_text("# nothing\n")
    assert load(file, Config) == Config()


def test_what_is_said_is_typed():
    """Nested parts too."""
    text = """
    listen: {host: 0.0.0.0, port: 9004, health_port: 9005, tls: {cert: a.pem, key: a.key, client_ca: ca.pem}}
    log: {level: debug, sample: 0.5}
    limits: {body_bytes: 1024}
    """
    tls = Tls(cert="a.pem", key="a.key", client_ca="ca.pem")
    assert parse(text, Config) == Config(
        listen=Listen(host="0.0.0.0", port=9004, health_port=9005, tls=tls),
        log=Log(level="debug", sample=0.5),
        limits=Limits(body_bytes=1024),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lisen: {}", "Object contains unknown field `lisen`; expected one of: listen, "),
        ("listen: {port: x}", r"Expected `int`, got `str` - at `\$.listen.port`"),
        ("listen: {port: '80'}", r"Expected `int`, got `str` - at `\$.listen.port`"),
        ("listen: {port: 70000}", r"`int` <= 65535 - at `\$.listen.port`"),
        ("listen: {prot: 1}", r"unknown field `prot` - at `\$.listen`; expected one of: host, port, "),
        (
            "listen: {tls: {crt: x}}",
            r"unknown field `crt` - at `\$.listen.tls`; expected one of: cert, key, client_ca",
        ),
        ("listen: {}", r"missing required field `port` - at `\$.listen`"),
        ("log: {level: loud}", r"Invalid enum value 'loud' - at `\$.log.level`"),
        ("log: {sample: 2}", r"`float` <= 1.0 - at `\$.log.sample`"),
        ("limits: {body_bytes: 0}", r"`int` >= 1 - at `\$.limits.body_bytes`"),
        ("- 1", "Expected `object`, got `array`"),
        ("log: {level: info, level: debug}", "line 1, column 20: the key 'level' stands twice"),
        ("log: {level: info}\nlog: {}", "line 2, column 1: the key 'log' stands twice"),
        ("log: [", "line 1, column 7: "),
        ("log: !!python/object:os.system {}", "line 1, column 6: could not determine a constructor"),
    ],
)
def test_a_mistake_is_named_with_its_place(text, message):
    """File, path or line, and what was expected."""
    with pytest.raises(ConfigError, match=f"bbr.yaml: .*{message}"):
        parse(text, Config, name="bbr.yaml")


def test_anchors_and_merge_keys_are_allowed():
    """They are YAML's way to say a thing once; a merge is not a repeated key."""
    text = "{a: &a {level: info}, b: {<<: *a, level: debug}, c: {<<: *a, <<: *a}}"
    assert parse(text, dict[str, Log])["b"] == Log(level="debug")


def test_a_missing_file_is_one_sentence(tmp_path):
    """Not a stack."""
    with pytest.raises(ConfigError, match=r"nothing\.yaml: no such file"):
        load(tmp_path / "nothing.yaml", Config)


@pytest.mark.parametrize("content", [b"\xff\xfe\xff", None])
def test_an_unreadable_file_is_one_sentence(tmp_path, content):
    """Binary, or a folder."""
    path = tmp_path / "odd"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigError, match="odd: cannot be read"):
        load(path, Config)
