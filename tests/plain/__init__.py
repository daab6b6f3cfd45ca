"""Straightforward counterparts of what the package does fast, for comparison alone."""
