"""The ordered chain of plugins: each one timed, and its failure contained as it declares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from services.bbr.plugins import (
    AnswerChange,
    AnswerView,
    BodyEdit,
    OnError,
    RequestPlugin,
    ResponsePlugin,
)
from services.bbr.records import Observer, PluginId, Point
from services.bbr.refusals import failed_plugin
from services.bbr.routing import Routed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Link:
    """One configured plugin."""

    id: PluginId
    plugin: RequestPlugin | ResponsePlugin
    on_error: OnError = OnError.CLOSED


class Chain:
    """The configured plugins, in order. `clock` is in seconds and only compared with itself."""

    def __init__(self, links: Iterable[Link], observer: Observer, clock: Callable[[], float]) -> None:
        links = tuple(links)
        self._request = [(link, link.plugin) for link in links if isinstance(link.plugin, RequestPlugin)]
        self._response = [(link, link.plugin) for link in links if isinstance(link.plugin, ResponsePlugin)]
        self._observer = observer
        self._clock = clock

    def request(self, routed: Routed) -> Routed:
        """Return what the plugins made of a request."""
        for link, plugin in self._request:
            routed = self._guarded(Point.REQUEST, link, _request_step(plugin, routed), routed)
        return routed

    def response(self, view: AnswerView) -> list[AnswerChange]:
        """Return what the plugins want of an answer."""
        changes = []
        for link, plugin in self._response:
            change = self._guarded(Point.RESPONSE, link, partial(plugin.response, view), None)
            if change is not None and change.body is not None:
                edit = _Edit(change.body, link, self)
                change = AnswerChange(change.set_headers, change.remove_headers, edit)
            if change is not None:
                changes.append(change)
        return changes

    def failed(self, point: Point, link: Link, error: Exception) -> None:
        """Report a failure; refuse where the plugin fails closed."""
        self._observer.plugin_failed(point, link.id, error)
        if link.on_error is OnError.CLOSED:
            raise _refusal(point) from error

    def _guarded(self, point: Point, link: Link, step: Callable[[], T], otherwise: T) -> T:
        began = self._clock()
        try:
            return step()
        except Exception as error:  # noqa: BLE001 - another package's code
            self.failed(point, link, error)
            return otherwise
        finally:
            self._observer.plugin_ran(point, link.id, self._clock() - began)


class _Edit:
    """A plugin's change of a body, contained. Failing open means passing on what still comes, if nothing was changed."""

    def __init__(self, edit: BodyEdit, link: Link, chain: Chain) -> None:
        self._edit = edit
        self._link = link
        self._chain = chain
        self._intact = True
        self._over = False

    def feed(self, data: bytes, *, end: bool) -> bytes:
        if self._over:
            return data
        try:
            out = self._edit.feed(data, end=end)
        except Exception as error:
            self._over = True
            self._chain.failed(Point.RESPONSE, self._link, error)
            if not self._intact:
                raise _refusal(Point.RESPONSE) from error
            return data
        self._intact = self._intact and out == data
        return out


def _refusal(point: Point) -> Exception:
    """Return what ends the exchange. A refused request is counted as one before the transport hears of it."""
    refused = failed_plugin()
    return refused if point is Point.REQUEST else refused.error


def _request_step(plugin: RequestPlugin, routed: Routed) -> Callable[[], Routed]:
    def step() -> Routed:
        change = plugin.request(routed.view())
        return routed if change is None else routed.changed(change)

    return step
