"""The safety filter: judges prompts and answers by policy."""
