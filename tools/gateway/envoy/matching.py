"""What a route asks of a request, in Envoy's terms."""

from __future__ import annotations

from envoy_data_plane.envoy.config.route import v3 as route
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher

from tools.gateway.conditions import HeaderCondition, PathCondition
from tools.gateway.routes import Route

MODEL = "x-gateway-model-name"
BASE_MODEL = "x-gateway-base-model-name"
"""Both are set by BBR and removed from what clients send."""


def match_of(entry: Route, *more: route.HeaderMatcher) -> route.RouteMatch:
    """Return the match for all conditions of `entry`, and for the headers `more`."""
    headers = [*_model(entry), *_method(entry.methods), *map(_header, entry.headers), *more]
    return path_match(entry.path or PathCondition(prefix="/"), headers)


def path_match(path: PathCondition, headers: list[route.HeaderMatcher] | None = None) -> route.RouteMatch:
    """Return the match for a path, the query left aside."""
    return route.RouteMatch(
        path=path.exact,
        prefix=path.prefix,
        safe_regex=RegexMatcher(regex=path.regex) if path.regex is not None else None,
        headers=headers or [],
    )


def exactly(name: str, value: str) -> route.HeaderMatcher:
    """Return the match for one value of one header."""
    return route.HeaderMatcher(name=name, string_match=StringMatcher(exact=value))


def present(name: str) -> route.HeaderMatcher:
    """Return the match for a header of any value."""
    return route.HeaderMatcher(name=name, present_match=True)


def _model(entry: Route) -> list[route.HeaderMatcher]:
    if entry.model is not None:
        return [exactly(MODEL, entry.model)]
    return [] if entry.base_model is None else [exactly(BASE_MODEL, entry.base_model)]


def _method(methods: tuple[str, ...]) -> list[route.HeaderMatcher]:
    if not methods:
        return []
    any_of = StringMatcher(safe_regex=RegexMatcher(regex="|".join(methods)))
    return [route.HeaderMatcher(name=":method", string_match=any_of)]


def _header(condition: HeaderCondition) -> route.HeaderMatcher:
    if condition.present is not None:
        return route.HeaderMatcher(name=condition.name, present_match=condition.present)
    regex = None if condition.regex is None else RegexMatcher(regex=condition.regex)
    value = StringMatcher(exact=condition.exact, prefix=condition.prefix, safe_regex=regex)
    return route.HeaderMatcher(name=condition.name, string_match=value)
