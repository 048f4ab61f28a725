"""The gateway's three ext_proc services and the two packages they share."""
