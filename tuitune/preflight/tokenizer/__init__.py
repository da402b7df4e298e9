"""Checks of the tokenizer (section B of the catalogue)."""

from tuitune.preflight.tokenizer import backend, ends, padding, vocabulary

__all__ = ["backend", "ends", "padding", "vocabulary"]
