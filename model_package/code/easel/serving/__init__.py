"""Read a request; write a response."""
