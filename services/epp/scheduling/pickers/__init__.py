"""Pickers: from scores to a choice."""
