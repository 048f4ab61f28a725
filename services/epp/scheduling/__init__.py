"""The decision: filters → weighted scorers → picker. Pure: no I/O, no clock, no logging, no randomness of its own."""
