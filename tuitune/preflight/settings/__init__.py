"""Checks of `training:` (section H of the catalogue): its arguments, how many steps they make, what the loss sees, in which precision."""

from tuitune.preflight.settings import arguments, evaluation, loss, precision, steps

__all__ = ["arguments", "evaluation", "loss", "precision", "steps"]
