"""Only servers with certain labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from services.epp.endpoints import Server
from services.epp.scheduling.interfaces import Situation


class Requirement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of `matchExpressions`, as Kubernetes defines it: `NotIn` also matches a server without the label."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.values) is not (self.operator in {"In", "NotIn"}):
            raise ValueError(
                f"operator {self.operator} with values {list(self.values)}: In and NotIn need some, others none"
            )

    def met(self, labels: Mapping[str, str]) -> bool:
        """Say whether `labels` are as required."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """A Kubernetes label selector, all of which must match: the reference's `label-selector-filter`."""

    match_labels: dict[str, str] = field(default_factory=dict)
    match_expressions: tuple[Requirement, ...] = ()

    def keep(self, situation: Situation, servers: Sequence[Server]) -> Sequence[Server]:  # noqa: ARG002 - Filter
        """Keep the matching ones."""
        return [server for server in servers if self._matches(server.endpoint.labels)]

    def _matches(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            requirement.met(labels) for requirement in self.match_expressions
        )


@dataclass(frozen=True, slots=True)
class ByLabel:
    """One label has one of some values: the reference's older `by-label`."""

    label: str
    valid_values: tuple[str, ...] = ()
    allows_no_label: bool = False
    """Whether servers without the label pass."""

    def keep(self, situation: Situation, servers: Sequence[Server]) -> Sequence[Server]:  # noqa: ARG002 - Filter
        """Keep those with a valid value."""
        return [server for server in servers if self._valid(server.endpoint.labels.get(self.label))]

    def _valid(self, value: str | None) -> bool:
        return self.allows_no_label if value is None else value in self.valid_values
