"""The rows of an evaluation: what is asked, what would be right, and the same row in TRL's shape for its loss.

Columns are mapped as for training (tuitune.dataset.columns); two more are known here: `choices`, a list of answers to choose from, and
with it `label`, which of them is right.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from tuitune.dataset.columns import convert, mapping_for
from tuitune.dataset.load import rows_of
from tuitune.dataset.sources import Row
from tuitune.errors import UserError
from tuitune.text import printable

PASSED_ON = ("tools", "chat_template_kwargs")
_GOLD = "\0gold"  # a column name that no file has


@dataclass(frozen=True)
class Example:
    """One row. `row`: in the shape SFTTrainer takes; `prompt`: turns or text that the model answers, None where there is nothing to ask
    (plain text); `gold`: the right answer, None where there is none as text; `choices`: rows like `row`, of which number `right` is it."""

    file: str
    line: int
    row: dict[str, Any]
    prompt: list[dict[str, Any]] | str | None = None
    gold: str | None = None
    choices: tuple[dict[str, Any], ...] = ()
    right: int | None = None

    @property
    def asked(self) -> bool:
        """Whether an answer can be written and compared."""
        return self.prompt is not None and self.gold is not None


def examples(sources: Sequence[Mapping[str, Any]], rows: int | None = None) -> list[Example]:
    """The rows of all sources, in their order, at most `rows`; sources as in section `dataset:` of a recipe (`max_rows` cuts one; `weight`
    is for training and counts for nothing here). UserError with file and line for a row that does not fit."""
    found = list(islice((example for source in sources for example in _source(source)), rows))
    if not found:
        raise UserError("there is no row to evaluate on")
    return found


def _source(source: Mapping[str, Any]) -> Iterator[Example]:
    columns: dict[str, str] | None = None
    for row in islice(rows_of(source, "eval"), source.get("max_rows")):
        columns = columns or mapping_for(row, source.get("columns"))
        example = _choice(row, columns) if "choices" in columns else _example(convert(row, columns), row)
        if example is not None:
            yield example


def _example(row: dict[str, Any], source: Row) -> Example | None:
    """None for a KTO row that shows what not to say."""
    more = {name: row[name] for name in PASSED_ON if name in row}
    if "chosen" in row:
        return _preference(row, source)
    if "completion" in row:
        if row.get("label", True) is False:
            return None
        kept = {"prompt": row["prompt"], "completion": row["completion"], **more}
        return Example(source.file, source.line, kept, row["prompt"], _answer(row["completion"]))
    if "messages" in row:
        *before, last = row["messages"]
        gold = _answer([last]) if before else None
        return Example(source.file, source.line, row, before or None, gold)
    return Example(source.file, source.line, row)


def _preference(row: dict[str, Any], source: Row) -> Example:
    """The chosen answer is gold; choosing it over the rejected one is a choice of two."""
    if "prompt" not in row:
        from trl.data_utils import extract_prompt

        row = {**row, **extract_prompt(row)}
    more = {name: row[name] for name in PASSED_ON if name in row}
    both = tuple({"prompt": row["prompt"], "completion": row[name], **more} for name in ("chosen", "rejected"))
    return Example(source.file, source.line, both[0], row["prompt"], _answer(row["chosen"]), both, 0)


def _choice(row: Row, columns: Mapping[str, str]) -> Example:
    if "label" not in columns:
        raise UserError(f"{printable(row.file)}: `choices` needs to know which is right: add label=COLUMN to --columns")
    texts, names = _texts(row, row.data.get(columns["choices"]))
    right = _which(row, row.data.get(columns["label"]), texts, names)
    answer = "assistant" if "user" in columns else "completion"
    rest = {target: source for target, source in columns.items() if target not in ("choices", "label", answer)}
    made = [convert(replace(row, data={**row.data, _GOLD: text}), {**rest, answer: _GOLD}) for text in texts]
    return Example(row.file, row.line, made[right], made[right]["prompt"], texts[right], tuple(made), right)


def _texts(row: Row, value: Any) -> tuple[list[str], list[str]]:
    """The choices and their names; ARC and its kin write {"text": […], "label": [A, B, …]}."""
    texts = value.get("text") if isinstance(value, dict) else value
    names = value.get("label") if isinstance(value, dict) else None
    if not isinstance(texts, list) or len(texts) < 2 or not all(isinstance(text, str) for text in texts):
        shown = printable(repr(value), limit=60)
        raise UserError(f"{printable(row.file)}:{row.line}: choices is {shown}, where a list of at least two texts is needed")
    letters = [chr(ord("A") + number) for number in range(len(texts))]
    return texts, [str(name) for name in names] if isinstance(names, list) and len(names) == len(texts) else letters


def _which(row: Row, label: Any, texts: list[str], names: list[str]) -> int:
    """The right choice by its number from 0, its letter or name, or its text."""
    if isinstance(label, str):
        for listed in (names, texts):
            if listed.count(label.strip()) == 1:
                return listed.index(label.strip())
        label = int(label) if label.strip().isdecimal() else label
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(texts):
        return label
    shown = printable(repr(label), limit=60)
    raise UserError(
        f"{printable(row.file)}:{row.line}: label is {shown}, which names none of the {len(texts)} choices (from 0, or by letter)"
    )


def _answer(completion: list[dict[str, Any]] | str) -> str | None:
    """The text of an answer; None for one that is no single turn of text (calls of tools, several turns)."""
    if isinstance(completion, str):
        return completion
    only = completion[0] if len(completion) == 1 else {}
    content = only.get("content")
    return content if only.get("role") == "assistant" and isinstance(content, str) and content else None
