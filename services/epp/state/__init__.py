"""What replicas of the picker tell each other through Redis. `wire`, `outbox` and `inbox` are pure, `link` talks.

The request path reports and never waits; decisions read what is in memory.
"""

from services.epp.state.interfaces import Alone, Listener, SharedState, Unheard

__all__ = ["Alone", "Listener", "SharedState", "Unheard"]
