"""Pure parts of the alignment view."""
