"""LoRA adapters: read, match and add them to the weights."""
