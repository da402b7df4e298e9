"""Which row it was: TRL refuses a whole data set with the words of a template or a tokenizer, and no place."""

import copy
from typing import Any

from tuitune.analyst.hollow import hollow_model
from tuitune.analyst.quick_rows import quick
from tuitune.analyst.whole_set import tokenised
from tuitune.errors import UserError
from tuitune.template.skeletons import Skeletons
from tuitune.trainer.build import Built, assemble, make_tokenizer


def with_place(built: Built, config: Any, rows: Any, refused: UserError) -> UserError:
    """The refusal with file and line of the first row of built.train that fails alone; as it is when no single row is to blame."""
    if not hasattr(config, "dataset_kwargs"):
        return refused
    unprepared = copy.copy(config)
    unprepared.dataset_kwargs = {**(config.dataset_kwargs or {}), "skip_prepare_dataset": True}
    tokenizer = make_tokenizer(built)
    if not getattr(tokenizer, "is_fast", False):
        return refused
    try:
        assemble(built, unprepared, tokenizer, hollow_model(built, tokenizer), None, rows)
        tokenised(built, quick(tokenizer), range(len(built.train.rows)), Skeletons())
    except UserError as error:
        return error
    return refused
