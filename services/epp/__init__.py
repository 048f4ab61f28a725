"""The endpoint picker: chooses the model server for each request."""
