"""Batches: a file of many requests becomes a folder of pictures, through all interruptions."""
