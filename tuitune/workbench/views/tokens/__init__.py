"""Pure parts of the token view."""
