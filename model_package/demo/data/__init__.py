"""Training data: things, colours, backgrounds, captions and latents."""
