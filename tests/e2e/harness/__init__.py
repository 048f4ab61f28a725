"""Real Envoy between scripted clients, scripted ext_proc servers and a backend that remembers what it got.

It knows nothing of the three services: what is learnt here is about Envoy.
"""
