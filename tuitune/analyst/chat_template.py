"""Makes a template report: a recipe's chat template on the recipe's own rows."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tuitune.analyst.conversation import conversations, render_options
from tuitune.analyst.generation import mark_generation
from tuitune.analyst.inspection import SAMPLE, choose, subset
from tuitune.analyst.rendering import Renderer, Talk, why
from tuitune.analyst.template_sources import FILES, TRAINING, own, trained_with
from tuitune.analyst.template_sources import other as other_source
from tuitune.recipe.recipe import Recipe
from tuitune.template.difference import first_difference, show_ids, unified
from tuitune.template.document import ComparedRow, Comparison, RenderedRow, Source, TemplateReport
from tuitune.trainer.build import begin, make_tokenizer, rows_dataset

Progress = Callable[[str], None]
PROVEN = 20_000  # rows on which markers are proven; a seeded sample of more


def examine(
    recipe: Recipe,
    progress: Progress,
    rows: Sequence[int] | None = None,
    limit: int = SAMPLE,
    other: str | None = None,
    mark: bool = False,
) -> TemplateReport:
    """The template in force, its renders of the rows, the prefix test; against another template, or with markers, when that is asked for.

    rows: numbers from 0 of those to render; None: all, or a seeded sample of `limit`. other: see template_sources.other; mark: with
    markers. UserError when there is no template or the data cannot be read.
    """
    built = begin(recipe)
    total = len(built.train.rows)
    chosen = choose(total, rows, limit)
    tokenizer = make_tokenizer(built)
    stock = own(recipe, tokenizer, render_options(built.train.rows[chosen[0]])["tools"] if chosen else None)
    source, swapped, note = trained_with(recipe, tokenizer, stock)
    if "conversational" not in built.train.format:
        return TemplateReport(source, total, 0, [], "the rows are plain text: no template is applied to them")
    renderer = Renderer(tokenizer, swapped)
    progress(f"rendering {len(chosen):,} rows")
    talks = list(_talks(built, chosen))
    shown = [
        RenderedRow(row, *built.train.places[row], [renderer.conversation(talk) for talk in talks if talk.row == row]) for row in chosen
    ]
    comparison = compare(renderer, source, other_source(other, recipe, tokenizer, stock), talks) if other else None
    marking = None
    if mark:
        proof = list(_talks(built, choose(total, None, PROVEN)))
        progress(f"marking, with a proof on {len(proof):,} conversations")
        marking = mark_generation(Renderer(tokenizer), stock.text, proof)
    return TemplateReport(source, total, len(chosen), shown, note, comparison, marking)


def _talks(built: Any, rows: Sequence[int]) -> Iterator[Talk]:
    """The conversations of rows as the trainer gets them, which is through a Dataset."""
    for row, example in zip(rows, rows_dataset(subset(built.train, rows)), strict=True):
        for name, turns in conversations(example):
            yield Talk(row, name, turns, render_options(example))


def compare(renderer: Renderer, ours: Source, other: Source, talks: Sequence[Talk]) -> Comparison:
    """Both templates on the same conversations with the same tokenizer: that of the recipe."""
    return Comparison(other, unified(ours.text, other.text, ours.origin, other.origin), [_compared(renderer, other.text, t) for t in talks])


def _compared(renderer: Renderer, other: str, talk: Talk) -> ComparedRow:
    try:
        one = renderer.text(talk)
    except Exception as error:  # templates raise what they like; there is nothing to compare, and the row says so
        return ComparedRow(talk.row, talk.name, error=f"the template in force fails: {why(error)}")
    try:
        two = renderer.text(talk, template=other)
    except Exception as error:  # as above
        return ComparedRow(talk.row, talk.name, error=f"the other template fails: {why(error)}")
    text = first_difference(one, two)
    ids = first_difference(renderer.ids(one), renderer.ids(two), show_ids)
    return ComparedRow(talk.row, talk.name, text, ids, two if text else "")


def hub_names_of(other: str | None) -> list[str]:
    """What of `other` may come from the Hub: a name that is no word of ours and no path."""
    local = other is None or other == TRAINING or other.startswith((".", "/", "~")) or Path(other).suffix in FILES or Path(other).exists()
    return [] if local or other is None else [other]
