"""Checks of the adapter (section F of the catalogue): what LoraConfig says, and what of the model it reaches."""

from tuitune.preflight.adapter import configuration, earlier, embeddings, reach

__all__ = ["configuration", "earlier", "embeddings", "reach"]
