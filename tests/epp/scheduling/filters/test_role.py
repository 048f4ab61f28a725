"""Roles in disaggregated serving."""

from __future__ import annotations

import pytest

from services.epp.scheduling.filters.role import ROLE, DecodeRole, EncodeRole, PrefillRole
from services.epp.scheduling.interfaces import Filter
from tests.epp.scheduling.world import server, situation, slots

ROLES = [
    "encode",
    "prefill",
    "decode",
    "encode-prefill",
    "prefill-decode",
    "both",
    "encode-prefill-decode",
    "other",
]


@pytest.mark.parametrize(
    ("plugin", "expected"),
    [
        (DecodeRole(), {"decode", "prefill-decode", "both", "encode-prefill-decode", None}),
        (PrefillRole(), {"prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"}),
        (EncodeRole(), {"encode", "encode-prefill", "encode-prefill-decode"}),
    ],
)
def test_each_stage_has_its_roles(plugin: Filter, expected):
    """A server without a role decodes, and does nothing else."""
    servers = [server(slot, labels={ROLE: role}) for slot, role in enumerate(ROLES)]
    servers.append(server(len(ROLES)))
    names = [*ROLES, None]

    assert {names[slot] for slot in slots(plugin.keep(situation(), servers))} == expected
