"""Checks: what looks at a text. `base` has the interface, `registry` the types, `rules` the built-in one."""
