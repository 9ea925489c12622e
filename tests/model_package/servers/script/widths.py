"""The widths, in pixels, at which the script's model goes wrong."""

BLOCKED, NO_MEMORY, NOT_A_NUMBER, SLOW, DEADLY = 72, 80, 88, 96, 104
