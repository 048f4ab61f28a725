"""A mock vLLM: one engine model behind the OpenAI API."""
