"""`inference-gateway safety …`: what to do with policies besides running them."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from services.extproc.config import ConfigError

_TROUBLE = 2  # as diff(1): 0 the same, 1 different, 2 trouble


class Trouble(click.ClickException):
    """Something kept the comparison from being made."""

    exit_code = _TROUBLE


@click.group()
def safety() -> None:
    """Work with the safety service's policies."""


@safety.command()
@click.argument("recording", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--config", type=click.Path(path_type=Path), default=Path("config/safety.yaml"), show_default=True
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="Compare with this configuration, not with the recorded verdicts.",
)
def replay(recording: Path, config: Path, against: Path | None) -> None:
    """Judge RECORDING (JSON lines) by the rules of --config and print what it would see differently.

    Remote judges are not asked. Exit status: 0 no difference, 1 differences, 2 trouble.
    """
    from tools.gateway.replaying import compare  # noqa: PLC0415 - rules and providers take half a second to load

    try:
        same = compare(recording, config, against, click.echo)
    except (ConfigError, LookupError, ValueError) as error:
        raise Trouble(f"{recording}: {error}") from error
    sys.exit(not same)
