"""What runs beside the services: the one-command gateway and the mock model server."""
