"""The endpoint: its definitions and image, and the way into service and out of it."""
