"""What servers say they have cached: vLLM's KV events, and the exact prefix index made of them."""
