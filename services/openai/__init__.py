"""The request and response dialects of model servers: what to read, where it stands, how to answer."""
