"""Checks of the rows (section E of the catalogue): as they stand in their files, as conversations, and as the trainer prepares them."""

from tuitune.preflight.data import answers, files, forms, kinds, lengths, repeats, turns

__all__ = ["answers", "files", "forms", "kinds", "lengths", "repeats", "turns"]
