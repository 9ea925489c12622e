"""The image file and the metadata inside it."""
