"""One profile."""

from __future__ import annotations

import pytest

from services.epp.scheduling.handlers.single import SingleProfile
from tests.epp.scheduling.handlers.world import Fixed


def test_the_only_profile_decides():
    """Whatever its name."""
    profile = Fixed("any")

    assert SingleProfile().bind({"any": profile}, {}) is profile


def test_several_profiles_need_another_handler():
    """The sentence names them."""
    with pytest.raises(
        ValueError, match="2 profiles, and no handler to choose: declare header-profile-handler"
    ):
        SingleProfile().bind({"a": Fixed("a"), "b": Fixed("b")}, {})
