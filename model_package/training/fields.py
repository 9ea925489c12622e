"""The rules of `generation.py`, which is next to this folder in a training job's code.

The scripts and the gateway have copies of job.py and kohya.py, and find the rules elsewhere.
"""

from generation import Choice, InvalidField, Name, Number, Rule, Text, Whole

__all__ = ["Choice", "InvalidField", "Name", "Number", "Rule", "Text", "Whole"]
