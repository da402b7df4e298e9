"""Checks of the tokenizer (section B of the catalogue)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tuitune.preflight.finding import Found
from tuitune.preflight.registry import Stage, check
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext


@check("TOK01", "error", "a token id beyond the embedding", Stage.ROWS)
def id_out_of_range(context: "CheckContext") -> Iterator[Found]:
    """A token of the data has an id for which the embedding has no row: IndexError on the CPU, an assert somewhere later on a GPU.

    The largest id that is used is compared with the rows that the embedding has in training, never with len(tokenizer): ids can have gaps.
    Do: choose a pad token and markers that the model knows, or declare new ones in tokenizer.add_special_tokens, which adds their rows.
    Known from: transformers#24698, llama-cookbook#189.
    """
    rows, tokenizer = context.embedding_rows, context.tokenizer
    if rows is None:
        return
    added = {"padding": tokenizer.pad_token_id, "end": tokenizer.eos_token_id, "beginning": tokenizer.bos_token_id}
    beyond = [(id, f"row {row}", context.row(row)) for id, row in context.used.items() if id >= rows]
    beyond += [(id, use, context.at("tokenizer")) for use, id in added.items() if id is not None and id >= rows]
    for id, use, where in sorted(beyond, key=lambda found: found[0])[:10]:
        text = printable(tokenizer.convert_ids_to_tokens(id) or "", limit=40)
        yield Found(
            f"token {text!r} has id {id}, the embedding has rows 0 to {rows - 1} ({use}): the first step that meets it crashes. Use a "
            "token that the model knows, or name it in tokenizer.add_special_tokens",
            where,
            {"token": text, "id": id, "rows": rows, "used": use},
        )
