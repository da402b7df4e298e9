"""Pure parts of the template view."""
