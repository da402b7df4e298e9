"""Checks of the rows (section E of the catalogue): as they stand in their files, as conversations, and as the trainer prepares them."""

# isort: off
# in the order of the catalogue, which is the order in which they run
from tuitune.preflight.data import kinds, files, turns, lengths, repeats, answers, forms

__all__ = ["answers", "files", "forms", "kinds", "lengths", "repeats", "turns"]
