"""The gateway: its settings, its chalice project, and its deployment."""
