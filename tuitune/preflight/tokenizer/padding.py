"""The padding token: TOK03, TOK04, TOK05, TOK15."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tuitune.preflight.finding import Change, Fix, Found
from tuitune.preflight.registry import Stage, check
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext


def choose_padding(context: "CheckContext", automatic: bool = True) -> Fix | None:
    """Names another padding token in the recipe: a special one that neither data nor template has. None when the vocabulary has none."""
    free = context.free_token
    if free is None:
        return None
    change = Change(("tokenizer", "pad_token"), free)
    return Fix(f"pad with {printable(repr(free))}, a special token that nothing else uses", automatic, changes=(change,))


def _remedy(fix: Fix | None) -> str:
    return f"; tokenizer.pad_token: {fix.changes[0].value!r} would be one of its own" if fix else ""


@check("TOK03", "info", "no padding token", Stage.TOKENIZER)
def padding_missing(context: "CheckContext") -> Iterator[Found]:
    """The tokenizer names no padding token. TRL then pads with the end token and masks by length, which is right while it trains; programs
    that mask every padding id would ignore the end of every answer.

    Do: choose a token that is neither the end token nor in the data; `tuitune check --fix` does.
    Known from: trl/trainer/sft_trainer.py (pad_token falls back to eos_token).
    """
    tokenizer = context.tokenizer
    if tokenizer.pad_token_id is not None:
        return
    fix = choose_padding(context)
    yield Found(
        f"the tokenizer has no padding token, so TRL pads with the end token {printable(repr(tokenizer.eos_token))}: harmless in this "
        f"training, other programs may mask the end of every answer{_remedy(fix)}",
        context.at("tokenizer", "pad_token"),
        {"eos": tokenizer.eos_token},
        fix,
    )


@check("TOK04", "info", "padding with the end token", Stage.TOKENIZER)
def padding_equals_end(context: "CheckContext") -> Iterator[Found]:
    """The padding token is the end token. TRL masks padding by its length, so the end of every answer stays in the loss; collators that
    mask every padding id (transformers' DataCollatorForLanguageModeling) would take it out, and the model would never learn to stop.

    Do: nothing for this training; for others choose another token, which `tuitune check --fix` does.
    Known from: trl#734, unsloth#416, llm-course#33, granite-3.1#2; measured in tests/contract/preflight/test_facts_tokens.py.
    """
    tokenizer = context.tokenizer
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id != tokenizer.eos_token_id:
        return
    fix = choose_padding(context)
    yield Found(
        f"padding and end are the same token {printable(repr(tokenizer.eos_token))}: harmless in this training, since TRL masks padding by "
        f"length; other programs may mask the end of every answer{_remedy(fix)}",
        context.at("tokenizer", "pad_token"),
        {"token": tokenizer.eos_token, "id": tokenizer.eos_token_id},
        fix,
    )


@check("TOK05", "warning", "the padding token has another duty", Stage.ROWS)
def padding_in_use(context: "CheckContext") -> Iterator[Found]:
    """The padding token is the unknown or the beginning token too, or it occurs in the rows: programs that mask every padding id (most
    that are not TRL, generation among them) then ignore real tokens.

    Do: choose a special token that nothing else uses.
    Known from: axolotl#1031.
    """
    tokenizer = context.tokenizer
    id, text = tokenizer.pad_token_id, printable(repr(tokenizer.pad_token))
    if id is None or id == tokenizer.eos_token_id:
        return
    duties = [name for name, other in (("unknown", tokenizer.unk_token_id), ("beginning", tokenizer.bos_token_id)) if other == id]
    row = context.used.get(id)
    if not duties and row is None:
        return
    fix = choose_padding(context, automatic=False)
    why = f"also the {' and the '.join(duties)} token" if duties else f"part of the data (row {row})"
    yield Found(
        f"the padding token {text} is {why}: generation and other programs mask it there as well{_remedy(fix)}",
        context.row(row) if row is not None and not duties else context.at("tokenizer", "pad_token"),
        {"token": tokenizer.pad_token, "id": id, "duties": duties, "row": row},
        fix,
    )


@check("TOK15", "info", "padding on the left", Stage.TOKENIZER)
def padding_side(context: "CheckContext") -> Iterator[Found]:
    """The tokenizer pads on the left, which generation of several texts at once needs. TRL's collators pad on the right by themselves, so
    it has no part in training.

    Do: nothing.
    Known from: trl's collators (padding_side is not read).
    """
    if context.tokenizer.padding_side == "left":
        yield Found(
            "the tokenizer pads on the left: right for generation, and without effect on this training",
            context.at("model", "name_or_path", view="alignment"),
            {"padding_side": "left"},
        )
