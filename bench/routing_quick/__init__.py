"""Routing policies compared in virtual time, in seconds: what the cost formula was tuned on."""
