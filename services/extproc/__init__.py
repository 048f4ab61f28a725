"""The ext_proc protocol: a sans-IO session between Envoy and a service, and the thin transport around it."""
