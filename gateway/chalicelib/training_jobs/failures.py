"""The one way in which training fails: with a sentence that a person can act on."""


class TrainingFailed(Exception):
    """Training cannot go on; the text is a sentence that says what to change."""
