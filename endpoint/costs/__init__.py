"""What an endpoint costs at a given rate of requests."""
