"""Batches of the API: their files, and the work that events in S3 continue."""
