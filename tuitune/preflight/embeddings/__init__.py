"""Checks of embeddings and weight files (section C of the catalogue): headers and single rows, never the whole weights."""

from tuitune.preflight.embeddings import files, rows

__all__ = ["files", "rows"]
