"""The containers of other backends: their wire, imitated from their published source.

Each is strict: it refuses what the source refuses, in its words, and drops what the source drops.
"""
