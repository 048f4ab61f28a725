"""Prompts as the model's tokens, found beside the request path: what exact prefixes are made of."""
