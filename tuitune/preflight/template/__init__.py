"""Checks of the chat template (section D of the catalogue).

TPL21 (control tokens in the data's own texts) is DAT12. What a template refuses or leaves out is asked of one conversation of every shape
that the data has (tuitune.template.words), so that is said of all rows; what depends on the texts is looked at on a seeded sample.
"""

from tuitune.preflight.template import source, mask, prompt, turns, text  # noqa: I001, F401  the order of the catalogue's groups
