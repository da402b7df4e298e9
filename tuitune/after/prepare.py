"""Rows of an evaluation as token ids and labels: SFTTrainer's own preparation, with what the recipe says about rows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tuitune.after.examples import PASSED_ON, Example
from tuitune.dataset.load import Split
from tuitune.errors import UserError
from tuitune.recipe.recipe import Recipe
from tuitune.text import printable
from tuitune.trainer.build import Built, reason_of
from tuitune.trainer.device import look
from tuitune.trainer.methods import method_for

# What decides which tokens of a row count; everything else of `training:` is about learning
ABOUT_ROWS = ("max_length", "completion_only_loss", "assistant_only_loss", "truncation_mode")

Tokens = tuple[list[int], list[int]]  # ids, labels (-100: not in the loss)


def prepare(recipe: Recipe, tokenizer: Any, rows: Sequence[dict[str, Any]]) -> list[Tokens | None]:
    """What an evaluation step of the recipe's training would see of each row; None for a row that TRL drops because nothing of it counts
    within max_length. Rows of other tasks' recipes (DPO …) are read as SFT's. UserError with TRL's reason when it refuses them."""
    from tuitune.analyst.prepared_rows import ROW, hollow_trainer

    split = Split(list(rows))
    if "conversational" in split.format and not tokenizer.chat_template:
        raise UserError(
            "the rows are conversations, and the tokenizer has no chat template; map the columns to prompt and completion, or evaluate the "
            "model's instruct version"
        )
    shapes = {tuple(sorted(set(row) & {"messages", "prompt", "completion", "text"})) for row in rows}
    if len(shapes) > 1:
        raise UserError("the rows of different sources have different shapes; evaluate them one after the other with --data")
    training = {key: value for key, value in recipe.training.items() if key in ABOUT_ROWS}
    plain = replace(recipe, task="sft", training=training, dataset={"train": [], "eval": []}, peft=None)
    built = Built(None, method_for("sft"), look(), plain, split, None)
    hollow_trainer(built, tokenizer)
    found: list[Tokens | None] = [None] * len(rows)
    for batch in built.trainer.train_dataset.select_columns([ROW, "input_ids", "labels"]).iter(batch_size=256):
        for row, ids, labels in zip(batch[ROW], batch["input_ids"], batch["labels"], strict=True):
            found[row] = (ids, labels)
    return found


def prompt_ids(tokenizer: Any, example: Example) -> list[int]:
    """What the model is given to answer: the turns through the chat template with the beginning of an answer, or plain text as it is.
    UserError with the template's reason when it refuses them."""
    if isinstance(example.prompt, str):
        ids: list[int] = tokenizer(example.prompt)["input_ids"]
        return ids[:-1] if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id else ids
    tools, more = (example.row.get(name) for name in PASSED_ON)
    try:
        rendered: list[int] = tokenizer.apply_chat_template(
            example.prompt, tools=tools, add_generation_prompt=True, tokenize=True, return_dict=True, **(more or {})
        )["input_ids"]
    except Exception as error:
        raise UserError(f"{printable(example.file)}:{example.line}: the row cannot be asked: {reason_of(error)}") from error
    return rendered
