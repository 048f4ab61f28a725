"""The whole gateway on one machine: Envoy, the three services, mock model servers, a Redis-protocol server."""
