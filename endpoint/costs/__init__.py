"""What an endpoint costs at a rate of requests, and how long clients wait."""
