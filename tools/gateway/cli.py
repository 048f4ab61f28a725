"""`inference-gateway`: the whole stack on one machine, config checks, and Envoy's configuration."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO

import click

from services.extproc.config import ConfigError
from tools.gateway import rundir
from tools.gateway.checks import check_together, read_routes
from tools.gateway.plan import Options
from tools.gateway.safety_cli import safety
from tools.gateway.state_cli import state

CONFIG = Path("config")


def default_config_dir() -> Path:
    """Return ./config where there is one, else the one beside the packages."""
    return CONFIG if CONFIG.is_dir() else Path(__file__).parents[2] / CONFIG


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run an inference gateway: Envoy with three ext_proc services in front of model servers."""


@main.command(context_settings={"show_default": True})
@click.option("--port", default=8080, type=click.IntRange(1), help="The gateway's port.")
@click.option("--port-offset", default=0, help="Shifts every port, so that two stacks run side by side.")
@click.option(
    "--config-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=default_config_dir,
    show_default="config",
    help="Where bbr.yaml, safety.yaml, epp.yaml and routes.yaml are.",
)
@click.option(
    "--endpoint",
    "endpoints",
    multiple=True,
    metavar="POOL=URL",
    help="A real server, such as vLLM, in place of that pool's mock servers; repeatable.",
)
@click.option(
    "--epp-replicas",
    default=1,
    type=click.IntRange(1, 32),
    help="Processes of the endpoint picker, which share what they know. From the second on, a port block each at 9200.",
)
@click.option(
    "--redis",
    metavar="URL|off",
    help="A Redis server in place of the embedded one; off: replicas share nothing.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="Of every process; debug also shows their logs here.",
)
@click.option("--detach", is_flag=True, help="Return as soon as it is ready; it runs on in the background.")
@click.option("--stop", is_flag=True, help="Stop the stack on these ports.")
def up(
    port: int,
    port_offset: int,
    config_dir: Path,
    endpoints: tuple[str, ...],
    epp_replicas: int,
    redis: str | None,
    log_level: str,
    detach: bool,
    stop: bool,
) -> None:
    """Start Envoy, the three services, mock model servers and a Redis-protocol server; Ctrl-C stops them all.

    Prints a line `ready {json}` when everything is healthy.
    """
    options = Options(config_dir, port, port_offset, endpoints, redis, log_level, epp_replicas)
    if stop and detach:
        raise click.UsageError("--detach and --stop exclude each other")
    if stop or detach:
        sys.exit(_in_background(options, stop=stop))
    from tools.gateway.runner import run  # noqa: PLC0415 - rich and asyncio are for this command alone

    sys.exit(run(options))


def _in_background(options: Options, *, stop: bool) -> int:
    from tools.gateway import detached  # noqa: PLC0415 - as above

    run_dir = rundir.locate(options.ports.gateway)
    return detached.stop(run_dir) if stop else detached.detach(command_line(options), run_dir)


def command_line(options: Options) -> list[str]:
    """Return the arguments that mean `options`."""
    arguments = ["up", "--port", str(options.port), "--port-offset", str(options.port_offset)]
    arguments += ["--config-dir", str(options.config_dir), "--log-level", options.log_level]
    arguments += [flag for endpoint in options.endpoints for flag in ("--endpoint", endpoint)]
    arguments += ["--epp-replicas", str(options.epp_replicas)]
    return [*arguments, "--redis", options.redis] if options.redis else arguments


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def check(files: tuple[Path, ...]) -> None:
    """Say what is wrong in FILES and where; several are also checked against each other."""
    problems = check_together(files)
    for problem in problems:
        click.echo(problem, err=True)
    if not problems:
        click.echo(f"{len(files)} files are right" if len(files) > 1 else f"{files[0]} is right")
    sys.exit(bool(problems))


@main.command()
@click.option(
    "--config-dir", type=click.Path(path_type=Path), default=default_config_dir, show_default="config"
)
@click.option("--port-offset", default=0, help="As for `up`.")
@click.option("--local/--compose", default=False, help="Addresses of `up`, or of docker-compose.yaml.")
@click.option("--format", "syntax", type=click.Choice(["yaml", "json"]), default="yaml")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file, replaced in one step, in place of the terminal.",
)
@click.option("--validate", is_flag=True, help="Have Envoy itself check it first (`envoy --mode validate`).")
def render(
    config_dir: Path, port_offset: int, local: bool, syntax: str, output: Path | None, validate: bool
) -> None:
    """Print the Envoy configuration that routes.yaml describes."""
    from tools.gateway.envoy import bootstrap  # noqa: PLC0415 - Envoy's API takes a second to load
    from tools.gateway.envoy.addresses import COMPOSE  # noqa: PLC0415
    from tools.gateway.ports import Ports  # noqa: PLC0415

    try:
        routes = read_routes(config_dir / "routes.yaml")
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    addresses = Ports.at(offset=port_offset).addresses() if local else COMPOSE
    config = bootstrap.build(routes, addresses)
    text = bootstrap.to_json(config) if syntax == "json" else bootstrap.to_yaml(config)
    if validate:
        _require_valid(text, syntax)
    if output is None:
        click.echo(text)
    else:
        # Envoy, or a mount of the folder, never sees half a file.
        part = output.with_name(f".{output.name}.part")
        part.write_text(text)
        part.replace(output)


def _require_valid(text: str, syntax: str) -> None:
    """Raise a `ClickException` with Envoy's own words when it would not start with `text`."""
    from tools.gateway.binaries import MissingBinary, find  # noqa: PLC0415 - as above
    from tools.gateway.validation import complaint  # noqa: PLC0415

    try:
        said = complaint(find().envoy, text, syntax)
    except MissingBinary as error:
        raise click.ClickException(str(error)) from error
    if said:
        raise click.ClickException(said)


main.add_command(safety)
main.add_command(state)


@main.command()
@click.argument("decisions", type=click.File("rb"))
@click.option(
    "--config",
    required=True,
    type=click.Path(path_type=Path),
    help="The endpoint picker's configuration to decide by.",
)
def replay(decisions: IO[bytes], config: Path) -> None:
    """Decide DECISIONS again under another configuration: what /debug/decisions gave, or one on each line."""
    from services.epp.config import EndpointPickerConfig  # noqa: PLC0415 - as above
    from services.epp.replay import read  # noqa: PLC0415
    from services.epp.replay import replay as again  # noqa: PLC0415
    from services.extproc.config import load  # noqa: PLC0415

    try:
        changes = list(again(read(decisions.read()), load(config, EndpointPickerConfig)))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    for change in changes:
        if not change.same:
            click.echo(f"{change.id}: {change.then or 'nobody'} -> {change.now or 'nobody'} ({change.why})")
    changed = sum(not change.same for change in changes)
    click.echo(f"{changed} of {len(changes)} decisions would change")


if __name__ == "__main__":
    main()
