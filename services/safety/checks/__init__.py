"""Checks: what looks at a text. `base` has the interface, `registry` the types, `rules` to `ruleset` the built-in one."""
