"""The rules of `generation.py`, for job.py and kohya.py; the trainer finds them elsewhere."""

from ..generation import Choice, InvalidField, Name, Number, Rule, Text, Whole

__all__ = ["Choice", "InvalidField", "Name", "Number", "Rule", "Text", "Whole"]
