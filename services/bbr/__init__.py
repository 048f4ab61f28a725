"""The body-based router: reads the model name out of the body and sets the headers that routes match."""
