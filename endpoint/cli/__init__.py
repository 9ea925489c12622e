"""The frame of a script: its options, its context, and the inventory of resources."""
