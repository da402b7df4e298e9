"""Checks of this computer (section I of the catalogue)."""
