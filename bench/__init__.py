"""Measurements of the gateway. Every table says what machine and versions it was made with."""
