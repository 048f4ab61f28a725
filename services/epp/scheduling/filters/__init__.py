"""Filters: who may serve at all."""
