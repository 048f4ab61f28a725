"""Scorers: one aspect of a server each."""
