"""HTTP: requests, responses, routing, headers and pages."""
