"""Makes an inspection: rows with their tokens as the trainer sees them, attributed to where they come from."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any

from tuitune.analyst.conversation import messages_of, render_options
from tuitune.analyst.document import Inspection, Row, Tokens
from tuitune.analyst.prepared_rows import NOWHERE, PreparedRows, Whole, prepared_rows
from tuitune.analyst.row_size import affordable
from tuitune.dataset.load import Split
from tuitune.errors import UserError
from tuitune.recipe.recipe import Recipe
from tuitune.template.spans import TEMPLATE, UNKNOWN, Span, of_tokens, spans
from tuitune.trainer.build import Built, begin

SAMPLE = 256
SEED = 0

Attribution = list[tuple[str, str]]  # (role, source) of each token of a whole sequence


def inspect(recipe: Recipe, rows: Sequence[int] | None = None, limit: int = SAMPLE) -> Inspection:
    """The training rows of a recipe as its trainer prepares them.

    rows: numbers from 0 of those to look at; None: all of them, or a seeded sample of `limit` when there are more. Packs are then those of
    the sample. Rows too long to be looked at are left out. UserError when the recipe's data cannot be prepared, with TRL's own reason.
    """
    built = begin(recipe)
    built.eval = None  # its preparation is another question
    total = len(built.train.rows)
    chosen = choose(total, rows, limit)
    if not chosen:
        return Inspection(total, 0, [], [], {}, frozenset())
    chosen, left_out = affordable(built.train, chosen)
    built.train = subset(built.train, chosen)
    prepared = prepared_rows(built)
    names = _Names()
    shown = [_row(built, prepared, names, at, number) for at, number in enumerate(chosen)]
    tokenizer = built.trainer.processing_class
    used = {id for row in shown for tokens in row.sequences for id in tokens.ids}
    special = used & {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    texts = {id: token_text(tokenizer, id) for id in sorted(used)}
    return Inspection(total, len(chosen), shown, list(names), texts, frozenset(special), left_out)


def choose(total: int, rows: Sequence[int] | None, limit: int) -> list[int]:
    """The row numbers to look at of `total`: `rows`, else all, or a seeded sample of `limit`. UserError for a number that is no row's."""
    if rows is None:
        return list(range(total)) if total <= limit else sorted(Random(SEED).sample(range(total), limit))
    if rows and not 0 <= min(rows) <= max(rows) < total:
        raise UserError(f"there is no row {max(rows)}: the training data has {total} rows, 0 to {total - 1}", exit_code=2)
    return list(rows)


class _Names(dict[str, int]):
    """A number for every name, in the order in which they come."""

    def __missing__(self, name: str) -> int:
        self[name] = len(self)
        return self[name]


def subset(split: Split, chosen: Sequence[int]) -> Split:
    """The rows with these numbers, in this order."""
    return Split([split.rows[at] for at in chosen], [split.places[at] for at in chosen], split.columns)


def attribute(built: Built, row: int, whole: Whole) -> Attribution:
    """Role and source of every token of a row's sequence, "unknown" where the trainer's ids are not those of the rendered text."""
    tokenizer = built.trainer.processing_class
    example = built.train.rows[row]
    parts = messages_of(example, whole.name)
    unknown = [(UNKNOWN, UNKNOWN)] * len(whole.ids)
    if not getattr(tokenizer, "is_fast", False):
        return unknown
    if parts is None:
        return _of_strings(example, whole, tokenizer) or unknown
    render = partial(renderer(built, tokenizer), example)
    try:
        text = render([dict(part) for part in parts])
    except Exception:  # the trainer rendered what `datasets` made of the row, which a template may take better
        return unknown
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    if encoded["input_ids"] != whole.ids:
        return unknown
    return list(of_tokens(encoded["offset_mapping"], spans(parts, render, text)))


def _of_strings(example: Mapping[str, Any], whole: Whole, tokenizer: Any) -> Attribution | None:
    """Strings without a template: role and source are the column; what the tokenizer and TRL add (BOS, EOS) is the template's."""
    answer = "completion" if whole.name == "input" else whole.name
    columns = ("text",) if "text" in example else ("prompt", answer) if "prompt" in example else (answer,)
    text, parts = "", []
    for column in columns:
        parts.append(Span(len(text), len(text) + len(example[column]), column, column))
        text += example[column]
    for end in ("", tokenizer.eos_token or ""):
        encoded = tokenizer(text + end, return_offsets_mapping=True)
        if encoded["input_ids"] == whole.ids:
            added = Span(len(text), len(text + end), TEMPLATE, TEMPLATE)
            found = of_tokens(encoded["offset_mapping"], [*parts, added])
            nowhere = {at for at, (start, stop) in enumerate(encoded["offset_mapping"]) if start == stop}
            return [(TEMPLATE, TEMPLATE) if at in nowhere else origin for at, origin in enumerate(found)]
    return None


def token_text(tokenizer: Any, id: int) -> str:
    """A token's text with the blank before it, which decoders of SentencePiece drop at the beginning."""
    once, twice = (tokenizer.decode([id] * times, clean_up_tokenization_spaces=False) for times in (1, 2))
    return str(twice[len(once) :] if twice.startswith(once) else once)


def renderer(built: Built, tokenizer: Any) -> Callable[[Mapping[str, Any], list[dict[str, Any]]], str]:
    """(row, turns) → text, as the trainer renders turns of that row."""
    template = getattr(built.trainer, "chat_template", None)

    def render(example: Mapping[str, Any], turns: list[dict[str, Any]]) -> str:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, **{"chat_template": template, **render_options(example)}))

    return render


def _row(built: Built, prepared: PreparedRows, names: _Names, at: int, number: int) -> Row:
    file, line = built.train.places[at]
    attributions = {whole.name: attribute(built, at, whole) for whole in prepared.wholes.get(at, ())}
    found = []
    for sequence, mine in prepared.parts.get(at, ()):
        documents = {row: order for order, row in enumerate(dict.fromkeys(sequence.rows))}
        places = [sequence.places[position] for position in mine]
        origins = [attributions[sequence.name][place] if place != NOWHERE else (UNKNOWN, UNKNOWN) for place in places]
        found.append(
            Tokens(
                sequence.name,
                sequence.pack,
                [sequence.ids[position] for position in mine],
                [sequence.labels[position] for position in mine],
                mine,
                [documents[at]] * len(mine),
                [names[role] for role, _ in origins],
                [names[source] for _, source in origins],
            )
        )
    return Row(number, file, line, prepared.status(at), found)
