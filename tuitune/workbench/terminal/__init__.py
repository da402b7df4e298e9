"""Between Textual and the terminal: what keeps a slow line usable."""
