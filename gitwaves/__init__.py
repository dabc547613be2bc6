"""Plans, claims, verifies and merges the work of many coding agents, in Git alone."""

__version__ = "0.1.0"
