"""Workloads for tests and benchmarks: who asks what, and when, as plain data; and a client that plays them."""
