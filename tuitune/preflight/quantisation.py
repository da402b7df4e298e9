"""Checks of quantisation (section G of the catalogue)."""
