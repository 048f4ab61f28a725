"""The whole stack on one machine, Envoy's configuration from typed objects, and checks of the config files."""
