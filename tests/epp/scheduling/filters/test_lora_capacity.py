"""Adapters go where there is a place for them."""

from __future__ import annotations

from services.epp.scheduling.filters.lora_capacity import LoraCapacity
from tests.epp.scheduling.world import server, situation, slots

LOADED = server(0, max_adapters=2, active_adapters=frozenset({"food", "cad"}))
ROOM = server(1, max_adapters=2, active_adapters=frozenset({"cad"}))
FULL = server(2, max_adapters=2, active_adapters=frozenset({"cad"}), waiting_adapters=frozenset({"law"}))
SILENT = server(3)


def test_servers_with_the_adapter_or_a_place_stay():
    """One that reports no adapters is not judged."""
    servers = [LOADED, ROOM, FULL, SILENT]

    assert slots(LoraCapacity().keep(situation(model="food", base_model="llama"), servers)) == [0, 1, 3]


def test_an_adapter_that_waits_to_be_loaded_has_its_place():
    """It will be there."""
    assert slots(LoraCapacity().keep(situation(model="law", base_model="llama"), [FULL])) == [2]


def test_without_any_place_all_stay_unless_told_otherwise():
    """A swap is better than a refusal."""
    request = situation(model="poems", base_model="llama")

    assert slots(LoraCapacity().keep(request, [FULL, LOADED])) == [2, 0]
    assert slots(LoraCapacity(fallback_on_empty=False).keep(request, [FULL, LOADED])) == []


def test_the_base_model_needs_no_place():
    """All stay."""
    assert slots(LoraCapacity().keep(situation(model="llama", base_model="llama"), [FULL])) == [2]
