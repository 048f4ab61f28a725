"""Providers: remote judges. `base` has the interface, `registry` the types."""
