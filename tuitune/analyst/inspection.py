"""What `tuitune inspect` and the token view show: rows with their tokens as the trainer sees them, attributed to where they come from."""

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from tuitune.analyst.prepared_rows import IGNORED, NOWHERE, PreparedRows, Whole, prepared_rows
from tuitune.dataset.load import Split
from tuitune.recipe.recipe import Recipe
from tuitune.template.spans import UNKNOWN, of_tokens, spans
from tuitune.trainer.build import Built, begin

SAMPLE = 256
SEED = 0

Attribution = list[tuple[str, str]]  # (role, source) of each token of a whole sequence


def inspect(recipe: Recipe, rows: Sequence[int] | None = None, limit: int = SAMPLE) -> dict[str, Any]:
    """The document of `tuitune inspect --json` (DESIGN.md 4), without "schema".

    rows: numbers from 0 of the training rows to show; None: all of them, or a seeded sample of `limit` when there are more. Packs are then
    those of the sample. UserError when the recipe's data cannot be prepared, with TRL's own reason.
    """
    built = begin(recipe)
    built.eval = None  # its preparation is another question
    recipe.training.pop("eval_strategy", None)
    total = len(built.train.rows)
    chosen = list(rows) if rows is not None else list(range(total)) if total <= limit else sorted(Random(SEED).sample(range(total), limit))
    built.train = _subset(built.train, chosen)
    prepared = prepared_rows(built)
    attributions = {(row, whole.name): attribute(built, row, whole) for row, wholes in prepared.wholes.items() for whole in wholes}
    shown = [_row(built, prepared, attributions, at, number) for at, number in enumerate(chosen)]
    return {"rows": shown, "totals": _totals(shown, total), "sampled": len(chosen) < total}


def _subset(split: Split, chosen: Sequence[int]) -> Split:
    return Split([split.rows[at] for at in chosen], [split.places[at] for at in chosen], split.columns)


def attribute(built: Built, row: int, whole: Whole) -> Attribution:
    """Role and source of every token of a row's sequence, "unknown" where the trainer's ids are not those of the rendered text."""
    tokenizer = built.trainer.processing_class
    example = built.train.rows[row]
    parts = _messages(example, whole.name)
    unknown = [(UNKNOWN, UNKNOWN)] * len(whole.ids)
    if parts is None or not getattr(tokenizer, "is_fast", False):
        return unknown
    options = {"chat_template": getattr(built.trainer, "chat_template", None), "tools": example.get("tools")}
    options |= example.get("chat_template_kwargs") or {}

    def render(turns: list[dict[str, Any]]) -> str:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, **options))

    text = render([dict(part) for part in parts])
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    if encoded["input_ids"] != whole.ids:
        return unknown
    return list(of_tokens(encoded["offset_mapping"], spans(parts, render, text)))


def _messages(example: Mapping[str, Any], name: str) -> list[Mapping[str, Any]] | None:
    """The conversation behind a sequence; None for plain text."""
    if "messages" in example:
        return list(example["messages"])
    prompt, answer = example.get("prompt", []), example.get("completion" if name == "input" else name)
    return [*prompt, *answer] if isinstance(prompt, list) and isinstance(answer, list) else None


def _row(built: Built, prepared: PreparedRows, attributions: Mapping[tuple[int, str], Attribution], at: int, number: int) -> dict[str, Any]:
    file, line = built.train.places[at]
    tokenizer = built.trainer.processing_class
    sequences = []
    for sequence in prepared.sequences:
        if at not in sequence.rows:
            continue
        documents = {row: order for order, row in enumerate(dict.fromkeys(sequence.rows))}
        attribution = attributions.get((at, sequence.name), [])
        tokens = [
            _token(tokenizer, token, label, position, documents[row], attribution[place] if place != NOWHERE else (UNKNOWN, UNKNOWN))
            for position, (token, label, row, place) in enumerate(
                zip(sequence.ids, sequence.labels, sequence.rows, sequence.places, strict=True)
            )
            if row == at
        ]
        sequences.append({"name": sequence.name, "pack": sequence.pack, "tokens": tokens})
    return {"row": number, "file": file, "line": line, "status": prepared.status(at), "sequences": sequences}


def _token(tokenizer: Any, token: int, label: int, position: int, document: int, attribution: tuple[str, str]) -> dict[str, Any]:
    role, source = attribution
    special = token in tokenizer.all_special_ids or token in tokenizer.added_tokens_decoder
    return {
        "id": token,
        "label": label,
        "text": tokenizer.decode([token]),
        "position": position,
        "document": document,
        "role": role,
        "source": source,
        "in_loss": label != IGNORED,
        "special": special,
        "flags": ["partial"] if "�" in tokenizer.decode([token]) else [],
    }


def _totals(rows: Sequence[Mapping[str, Any]], total: int) -> dict[str, Any]:
    statuses = Counter(row["status"] for row in rows)
    tokens = [token for row in rows for sequence in row["sequences"] for token in sequence["tokens"]]
    trained = Counter(token["role"] for token in tokens if token["in_loss"])
    return {
        "rows": total,
        "shown": len(rows),
        "kept": statuses["kept"],
        "truncated": statuses["truncated"],
        "dropped": statuses["dropped"],
        "tokens": len(tokens),
        "trained_tokens": sum(trained.values()),
        "trained_by_role": dict(trained),
    }
