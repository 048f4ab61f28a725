"""How good the built-in safety rules are on labelled sets: reading sets, counting, intervals, tables."""
