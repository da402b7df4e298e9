"""Checks of the rows (section E of the catalogue)."""
