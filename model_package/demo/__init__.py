"""The small bundled model: what it draws, how it is trained, and its weights."""
