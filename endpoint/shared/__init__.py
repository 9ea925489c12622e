"""What every script of the endpoint's life shares."""
