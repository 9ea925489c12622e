"""Generate several requests together, one denoising step at a time, so that no picture shows it."""
