"""One profile decides every request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.epp.scheduling.interfaces import Scheduler


@dataclass(frozen=True, slots=True)
class SingleProfile:
    """The only profile there is: the reference's `single-profile-handler`, and the default."""

    def bind(self, profiles: Mapping[str, Scheduler], plugins: Mapping[str, object]) -> Scheduler:  # noqa: ARG002
        """Return the profile."""
        if len(profiles) != 1:
            raise ValueError(
                f"{len(profiles)} profiles, and no handler to choose: declare header-profile-handler or "
                "disagg-profile-handler"
            )
        return next(iter(profiles.values()))
