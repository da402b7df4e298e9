"""The check of preflight's own ground: are the rows that all other checks look at those that will be trained?"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tuitune.preflight.finding import Found
from tuitune.preflight.registry import Stage, check

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext


@check("PRE02", "error", "the quick preparation differs from the trainer's", Stage.ROWS)
def quick_preparation(context: "CheckContext") -> Iterator[Found]:
    """Figures over a whole set come from a way that is faster than the trainer's and is compared with it on a sample of 256 rows. Here the
    two differ, so all rows went through the trainer's own preparation: what is shown is right, but it took longer, and tuitune has a fault.

    Rule: ids, labels and masks of the sample are the same, number by number. A tokenizer written in Python takes the long way (info).
    Do: report it with the model's name; training is not affected.
    Known from: DESIGN.md, first promise.
    """
    difference = context.proven.difference
    if difference and getattr(context.tokenizer, "is_fast", False):
        message = f"{difference}: all rows were prepared by TRL itself instead. Please report this with the model's name"
        yield Found(message, context.at("model"))
    elif difference:
        yield Found(f"{difference}, so looking at all rows takes longer; training is as usual", context.at("model"), severity="info")
