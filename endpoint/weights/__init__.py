"""A model's weights: which files, and their way into the bucket."""
