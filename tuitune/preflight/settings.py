"""Checks of `training:` (section H of the catalogue)."""

from collections.abc import Iterator

from tuitune.preflight.context import DocumentContext
from tuitune.preflight.finding import Found
from tuitune.preflight.registry import Stage, check

UNKNOWN = ("RCP011", "RCP012", "RCP013", "RCP020")  # unknown, renamed or removed, at home in another section, deprecated


@check("TRN03", "error", "an argument the installed trainer does not have", Stage.RECIPE)
def unknown_argument(context: DocumentContext) -> Iterator[Found]:
    """A key of `training:` is no field of the installed config: removed, renamed or misspelt, and TRL would raise TypeError.

    Do: take the name that is offered; `tuitune check --fix` writes it.
    Known from: dataclasses.fields of the installed config (transformers 5 removed max_seq_length, evaluation_strategy, warmup_ratio …).
    """
    yield from context.told(UNKNOWN, ("training",))
