"""Rows that come again: within the training data, and in what the model is tested on (DAT15 to DAT17)."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuitune.preflight.data.answers import prompt_and_answer
from tuitune.preflight.data.common import SHOWN, at, evidence, leave_out, line, share
from tuitune.preflight.finding import Found, NotHere
from tuitune.preflight.registry import Stage, check
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext
    from tuitune.analyst.raw_rows import RawRow, RawSplit

OVERLAP = 0.005  # share of the evaluation rows, or of the training rows, from which on it counts
SAME_ANSWER = 0.5  # similarity of the answers of two rows that are nearly the same


@check("DAT15", "warning", "rows that are there twice", Stage.DATA)
def exact_duplicates(context: "CheckContext") -> Iterator[Found]:
    """Rows are the same as others but for white space: they count double, and the model learns them by heart. Up to 2 % is told only.
    What a source's `weight` repeats is meant, and is not counted.

    Do: train on a copy without the repetitions.
    Known from: Lee et al. 2021, Deduplicating Training Data Makes Language Models Better.
    """
    split = context.raw("train")
    found = split.copies
    if not found:
        return
    rows = [row for row, _ in found.values()]
    groups = Counter(before.row for _, before in found.values())
    first, before = next(iter(found.values()))
    yield Found(
        f"{share(len(rows), len(split.fit))} are there already, the first at {line(first)} (as {line(before)}): they count double. Train "
        "without them",
        at(split, first),
        evidence(rows, len(split.fit), groups={str(row): times + 1 for row, times in groups.most_common(SHOWN)}),
        leave_out(split, rows, "that are there already"),
        "warning" if len(rows) > 0.02 * len(split.fit) else "info",
    )


@check("DAT16", "warning", "rows that are nearly the same", Stage.DATA)
def near_duplicates(context: "CheckContext") -> Iterator[Found]:
    """Rows differ from others in case, punctuation or a few words only (3-grams of words 80 % alike, and the answers too): more than 5 %
    of them are a warning. Words that most rows share are the task's own and do not count.

    Do: train on a copy without them.
    Known from: Broder 1997 (MinHash); paraphrases and re-crawled pages.
    """
    from tuitune.preflight.data.near import similarity, twins

    split = context.raw("train")
    exact, rows = split.copies, split.fit
    near: list[tuple[RawRow, RawRow]] = []
    for one, other in twins(context.words(split)).items():
        mine, its = (prompt_and_answer(*rows[number]) for number in (one, other))
        alike = mine is None or its is None or similarity(mine[1], its[1]) >= SAME_ANSWER
        if one not in exact and alike and rows[one][1].get("label") == rows[other][1].get("label"):
            near.append((rows[one][0], rows[other][0]))
    if len(near) <= 0.05 * len(rows):
        return
    near.sort(key=lambda pair: pair[0].row)
    first, before = near[0]
    yield Found(
        f"{share(len(near), len(rows))} are nearly the same as others, the first at {line(first)} (as {line(before)}): they count double. "
        "Train without them",
        at(split, first),
        evidence([row for row, _ in near], len(rows), pairs=[[one.row, other.row] for one, other in near[:SHOWN]]),
        leave_out(split, [row for row, _ in near], "that are nearly the same as others"),
    )


@dataclass
class Overlap:
    """Training rows that are held out: (training row, held-out row) each. `whole`: with their answers; `prompts`: only the question."""

    whole: "list[tuple[RawRow, RawRow]]"
    prompts: "list[tuple[RawRow, RawRow]]"


def overlap(context: "CheckContext", train: "RawSplit", held: "RawSplit") -> Overlap:
    """What of `held` stands in `train`: whole rows nearly the same; questions the same, nearly the same or word for word."""
    from tuitune.preflight.data.near import matches, quotes

    said = context.words(train)
    whole: dict[int, int] = matches(said, context.words(held))
    asked, owner = _identifying(held)
    mine = [(number, question) for number, (row, example) in enumerate(train.fit) for question in questions(row, example)]
    by_words = {_plain(question): number for number, question in zip(owner, asked)}
    prompts: dict[int, int] = {}
    for number, question in mine:
        if (same := by_words.get(_plain(question))) is not None:
            prompts.setdefault(number, same)
    held_words = context.word_book.words(asked)
    for at_text, at_asked in matches(context.word_book.words([question for _, question in mine]), held_words).items():
        prompts.setdefault(mine[at_text][0], owner[at_asked])
    for number, at_asked in quotes(said, held_words).items():
        prompts.setdefault(number, owner[at_asked])

    def pairs(found: Mapping[int, int]) -> "list[tuple[RawRow, RawRow]]":
        return [(train.fit[number][0], held.fit[other][0]) for number, other in sorted(found.items())]

    return Overlap(pairs(whole), pairs({number: other for number, other in prompts.items() if number not in whole}))


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def questions(row: "RawRow", example: Mapping[str, Any]) -> list[str]:
    """What is asked in a row: the user's turns, or the prompt."""
    if row.talks:
        turns = row.talks[0][1]
        return [turn["content"] for turn in turns if turn.get("role") == "user" and isinstance(turn.get("content"), str)]
    return [example["prompt"]] if isinstance(example.get("prompt"), str) else []


def _identifying(held: "RawSplit") -> tuple[list[str], list[int]]:
    """Questions that say which row they are of: of three words and more, and not asked again and again; with their numbers in held.fit."""
    asked = [(number, question) for number, (row, example) in enumerate(held.fit) for question in questions(row, example)]
    times = Counter(_plain(question) for _, question in asked)
    kept = [(number, question) for number, question in asked if times[_plain(question)] <= 2 and len(question.split()) > 2]
    return [question for _, question in kept], [number for number, _ in kept]


@check("DAT17", "warning", "test rows among the training rows", Stage.DATA)
def train_eval_overlap(context: "CheckContext") -> Iterator[Found]:
    """Rows of dataset.eval, or their questions, are trained on: the evaluation then measures memory. The same holds for what the runs
    were evaluated on from which this one starts (model.adapter, and theirs): with such rows trained on, no comparison with those runs is
    worth anything, which is an error. Up to 0.5 % is told only.

    Do: train on a copy of the data without these rows.
    Known from: Yang et al. 2023, Rethinking Benchmark and Contamination; DPO pairs sampled from test questions.
    """
    train = context.raw("train")
    if context.recipe.dataset.get("eval"):
        held = context.raw("eval")
        found = overlap(context, train, held)
        yield from _told(train, held, found.whole, "whole rows of dataset.eval are trained on")
        yield from _told(train, held, found.prompts, "questions of dataset.eval are trained on, with other answers")
    for ancestor in context.ancestors:
        name, held = printable(ancestor.run.name), ancestor.evaluation
        if ancestor.fault:
            yield Found(
                f"this run starts from {name}, whose evaluation rows cannot be read ({printable(ancestor.fault, limit=300)}): whether they "
                "are trained on now is not known",
                context.at("model", "adapter"),
                {"run": str(ancestor.run.path)},
                severity="info",
            )
            continue
        found = overlap(context, train, held)
        pairs = sorted([*found.whole, *found.prompts], key=lambda pair: pair[0].row)
        files = ", ".join(sorted({printable(row.file.rpartition("/")[2]) for _, row in pairs}))
        what = f"questions on which {name} was evaluated ({files}) are trained on, and this run starts from it"
        yield from _told(train, held, pairs, what, severe=True, run=str(ancestor.run.path))
    if not context.recipe.dataset.get("eval") and not context.ancestors:
        raise NotHere("the recipe has no dataset.eval and starts from no run")


def _told(
    train: "RawSplit", held: "RawSplit", pairs: "Sequence[tuple[RawRow, RawRow]]", what: str, *, severe: bool = False, **more: Any
) -> Iterator[Found]:
    if not pairs:
        return
    tested = {other.row: other for _, other in pairs}
    part = len(tested) / len(held.fit)
    if severe:
        part = max(part, len(pairs) / len(train.fit))
    first, other = pairs[0]
    rows = [row for row, _ in pairs]
    more |= {"files": sorted({row.file for _, row in pairs}), "pairs": [[mine.row, its.row] for mine, its in pairs[:SHOWN]]}
    yield Found(
        f"{len(tested):,} of {len(held.fit):,} {what}, the first at {line(first)} (as {line(other)}): the evaluation then measures memory. "
        f"Train without these {len(rows):,} rows",
        at(train, first),
        evidence(rows, len(train.fit), held_out=[row.row for row in list(tested.values())[:SHOWN]], **more),
        leave_out(train, rows, "on which the model is tested"),
        "info" if part <= OVERLAP else "error" if severe else "warning",
    )
