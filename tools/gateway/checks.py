"""Whether a configuration file is right, and whether several fit each other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from services.extproc.config import ConfigError, load
from tools.gateway.routes import Fallback, Mirror, Routes

_TELLING_KEYS = {"routes": "routes", "apiVersion": "epp", "policies": "safety", "models": "bbr"}
"""A top-level key that only one kind has, in the order in which it is looked for."""


def check_file(path: Path) -> object:
    """Return the configuration in `path`, of whatever kind it is. Raises `ConfigError` when it is wrong."""
    return _READERS[kind_of(path)](path)


def kind_of(path: Path) -> str:
    """Return bbr, safety, epp or routes, by the file's name or else by its keys."""
    if path.stem in _READERS:
        return path.stem
    keys = load(path, dict[str, object])
    for key, kind in _TELLING_KEYS.items():
        if key in keys:
            return kind
    known = ", ".join(f"{kind}.yaml" for kind in _READERS)
    raise ConfigError(f"{path}: neither the name nor the keys tell what it is; expected one of {known}")


def check_directory(config_dir: Path) -> Routes:
    """Check all four files of `config_dir` and how they fit. Raises `ConfigError` with the first problem."""
    problems = check_together([config_dir / f"{kind}.yaml" for kind in _READERS])
    if problems:
        raise ConfigError(problems[0])
    return read_routes(config_dir / "routes.yaml")


def check_together(paths: Collection[Path]) -> list[str]:
    """Return what is wrong with each file or, when each is right by itself, between them."""
    problems, read = [], {}
    for path in paths:
        try:
            read[kind_of(path)] = (path, check_file(path))
        except ConfigError as error:
            problems.append(str(error))
    return problems or list(_contradictions(read))


def read_routes(path: Path) -> Routes:
    """Return the routes of `path`. Raises `ConfigError`."""
    return load(path, Routes)


def _contradictions(read: Mapping[str, tuple[Path, object]]) -> Iterator[str]:
    """Yield what one file says and another does not know; only of the kinds that were given."""
    path, routes = read.get("routes", (None, None))
    if path is None or not isinstance(routes, Routes):
        return
    if "epp" in read:
        yield from _unknown_pools(path, routes, *read["epp"])
        yield from _impatient(path, routes, *read["epp"])
        yield from _powerless(path, routes, *read["epp"])
        yield from _idle_rewrites(*read["epp"])
    if "bbr" in read:
        yield from _unmatched_models(path, routes, *read["bbr"])
        yield from _unknown_leg_models(path, routes, *read["bbr"])
        yield from _hidden_adapters(path, routes, *read["bbr"])
    for kind in ("bbr", "safety"):
        if kind in read:
            yield from _small_limits(path, routes, *read[kind])


def _unknown_pools(path: Path, routes: Routes, epp_path: Path, epp: object) -> Iterator[str]:
    known = _names(epp, "pools")
    for pool in routes.pools:
        if pool not in known:
            yield f"{path}: the pool {pool!r} is not in {epp_path}; it has {', '.join(known)}"


def _impatient(path: Path, routes: Routes, epp_path: Path, epp: object) -> Iterator[str]:
    """Yield waits that Envoy does not grant: it ignores a request for more than its maximum."""
    if "flowControl" not in getattr(epp, "feature_gates", ()):
        return
    wait: float = getattr(getattr(epp, "flow_control", None), "max_wait_seconds", 0.0)
    granted = routes.services.epp.max_timeout_seconds
    if granted is None or wait > granted:
        yield (
            f"{epp_path}: flowControl.max_wait_seconds is {wait:g}, and {path} grants "
            f"{'nothing' if granted is None else f'{granted:g}'} (services.epp.max_timeout_seconds)"
        )


def _powerless(path: Path, routes: Routes, epp_path: Path, epp: object) -> Iterator[str]:
    """Yield an eviction without anything to take back: Envoy closes the picker's streams with the pick."""
    if "flowControl" not in getattr(epp, "feature_gates", ()):
        return
    evicts: bool = getattr(getattr(epp, "flow_control", None), "enable_eviction", False)
    if evicts and not routes.services.epp.evictable:
        yield (
            f"{epp_path}: flowControl.enableEviction has no effect, because {path} does not keep the picker's "
            "streams open (services.epp.evictable)"
        )


def _idle_rewrites(epp_path: Path, epp: object) -> Iterator[str]:
    """Yield rewrites that never count: this gateway's router reads every body, and the picker none."""
    if getattr(epp, "rewrites", ()):
        yield f"{epp_path}: rewrites count only without BBR in front; here they belong into bbr.yaml"


def _unmatched_models(path: Path, routes: Routes, bbr_path: Path, bbr: object) -> Iterator[str]:
    """Yield routes that no request reaches, and models that reach no route."""
    known = _names(bbr, "models")
    routed = {route.base_model for route in routes.routes}
    for route in routes.routes:
        if route.base_model not in {None, *known} and getattr(bbr, "unknown_models", "reject") == "reject":
            yield f"{path}: no base model {route.base_model!r} in {bbr_path}; it has {', '.join(known)}"
    alone = {route.model for route in routes.routes}
    for name in known:
        if name not in routed | alone:
            yield f"{path}: no route for the base model {name!r} of {bbr_path}"


def _unknown_leg_models(path: Path, routes: Routes, bbr_path: Path, bbr: object) -> Iterator[str]:
    """Yield models of mirrors and fallbacks that BBR would answer with 404."""
    if getattr(bbr, "unknown_models", "reject") != "reject":
        return
    known = {name for name, _ in _served(bbr)} | set(getattr(bbr, "aliases", {}))
    for route in routes.routes:
        legs: tuple[Fallback | Mirror, ...] = (*route.fallbacks, *route.mirrors)
        for leg in legs:
            if leg.model not in {None, *known}:
                yield f"{path}: the route {route.name!r} asks {leg.pool} for {leg.model!r}, which is not in {bbr_path}"


def _hidden_adapters(path: Path, routes: Routes, bbr_path: Path, bbr: object) -> Iterator[str]:
    """Yield routes for an adapter that stand behind the open route of its base model."""
    base = dict(_served(bbr))
    open_routes: set[str | None] = set()
    for route in routes.routes:
        if route.model is not None and base.get(route.model, "") in open_routes:
            yield (
                f"{path}: the route {route.name!r} is never reached: that of its base model {base[route.model]!r} "
                f"in {bbr_path} comes first"
            )
        if route.is_open and route.base_model is not None:
            open_routes.add(route.base_model)


def _served(bbr: object) -> Iterator[tuple[str, str]]:
    """Yield every model and adapter that BBR's file names, with its base model."""
    for model in getattr(bbr, "models", ()):
        yield model.name, model.name
        for adapter in model.adapters:
            yield adapter, model.name


def _small_limits(path: Path, routes: Routes, service_path: Path, service: object) -> Iterator[str]:
    limit = getattr(getattr(service, "limits", None), "body_bytes", routes.largest_body)
    if limit < routes.largest_body:
        yield (
            f"{service_path}: limits.body_bytes is {limit}, and {path} lets in bodies of {routes.largest_body}; "
            "expected no less"
        )


def _names(config: object, field: str) -> list[str]:
    """Return the names of the entries of a list that a configuration of another package holds."""
    return [entry.name for entry in getattr(config, field)]


def _read_bbr(path: Path) -> object:
    from services.bbr.config import Config  # noqa: PLC0415 - `--help` should not load the services

    return load(path, Config)


def _read_safety(path: Path) -> object:
    from services.safety.assemble import assemble  # noqa: PLC0415 - as above
    from services.safety.checks.registry import check_types  # noqa: PLC0415
    from services.safety.config import SafetyConfig  # noqa: PLC0415
    from services.safety.providers.registry import provider_types  # noqa: PLC0415

    config = load(path, SafetyConfig)
    _build(path, lambda: assemble(config, check_types(), provider_types()))
    return config


def _read_epp(path: Path) -> object:
    from services.epp import assemble  # noqa: PLC0415 - as above
    from services.epp.config import EndpointPickerConfig  # noqa: PLC0415

    config = load(path, EndpointPickerConfig)
    _build(path, lambda: assemble.assemble(config))
    return config


def _build(path: Path, make: Callable[[], object]) -> None:
    """Build what a well-formed file describes: some of what it asks for may not exist."""
    try:
        make()
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


_READERS: Mapping[str, Callable[[Path], object]] = {
    "bbr": _read_bbr,
    "safety": _read_safety,
    "epp": _read_epp,
    "routes": read_routes,
}
