"""Prompts: weights, tokens, embeddings."""
