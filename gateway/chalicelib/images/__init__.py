"""The service that makes pictures; it knows no HTTP."""
