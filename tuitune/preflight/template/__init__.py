"""Checks of the chat template (section D of the catalogue)."""
