"""Checks of the adapter (section F of the catalogue)."""
