"""What replicas of the picker tell each other through Redis. `wire`, `outbox` and `inbox` are pure, `link` talks.

The request path reports and never waits; decisions read what is in memory.
"""

from services.epp.state.interfaces import Alone, Band, Listener, SharedState, Turns, Unheard

__all__ = ["Alone", "Band", "Listener", "SharedState", "Turns", "Unheard"]
