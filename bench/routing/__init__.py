"""Routing policies compared in virtual time: the real director and pool, and baselines, in front of modelled engines."""
