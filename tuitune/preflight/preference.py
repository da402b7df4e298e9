"""Checks of preference pairs (PREF of section E of the catalogue)."""
