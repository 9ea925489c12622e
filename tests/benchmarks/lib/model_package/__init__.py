"""What benchmarks of the model package share."""
