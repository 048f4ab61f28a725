"""A batch has room for so many adapters."""

from __future__ import annotations

from tools.model_server.adapters import AdapterSlots


def test_the_base_model_needs_no_slot():
    """Requests without an adapter always fit."""
    slots = AdapterSlots(1)
    slots.use("a", set())
    assert slots.admits("", {"a"})
    assert not slots.use("", {"a"})


def test_an_adapter_is_loaded_once():
    """The second request finds it in memory."""
    slots = AdapterSlots(2)
    assert slots.use("a", set())
    assert not slots.use("a", set())


def test_adapters_in_use_are_not_displaced():
    """With every slot in use another adapter has to wait."""
    slots = AdapterSlots(2)
    slots.use("a", set())
    slots.use("b", {"a"})
    assert not slots.admits("c", {"a", "b"})
    assert slots.admits("c", {"b"})


def test_the_adapter_unused_for_longest_makes_room():
    """Least recently used, among those that no running request needs."""
    slots = AdapterSlots(2)
    for name in ("a", "b", "a", "c"):
        slots.use(name, set())
    assert slots.loaded == ("a", "c")


def test_an_unloaded_adapter_frees_its_slot():
    """Unloading makes room at once."""
    slots = AdapterSlots(1)
    slots.use("a", set())
    slots.forget("a")
    assert slots.admits("b", {"a"})
