"""The LoRA trainer: what a training job runs.

It is shipped alone, with `generation.py` next to it for the rules of fields.
"""
