"""Envoy's bootstrap from typed objects: `bootstrap.build(routes, addresses)`. One module per part of the file."""
