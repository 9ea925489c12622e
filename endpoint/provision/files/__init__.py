"""The files of an endpoint: which they are, and their upload."""
