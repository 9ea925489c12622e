"""What benchmarks of the gateway share."""
