"""The whole gateway as a user starts it, and what a client can ask of it and of its parts."""
