"""Parts of the dataset view."""
