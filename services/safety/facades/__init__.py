"""Other gateways' words for the same judgement: the policies served as APIs that they already call."""
