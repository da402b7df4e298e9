"""The analyst's half of preflight: the stages that need tokenizer, rows and weights."""

from dataclasses import asdict
from typing import Any

import msgspec

from tuitune.analyst.check_context import CheckContext
from tuitune.analyst.render_watch import RenderWatch
from tuitune.analyst.server import Told
from tuitune.preflight.cards import Card
from tuitune.preflight.finding import Finding, as_json
from tuitune.preflight.registry import Stage, all_checks
from tuitune.preflight.run import run_checks
from tuitune.recipe.document import read_document
from tuitune.recipe.recipe import Recipe

STAGES = (Stage.TOKENIZER, Stage.DATA, Stage.ROWS, Stage.WEIGHTS, Stage.MODEL)


def check(recipe: Recipe, watch: RenderWatch, progress: Told, card: dict[str, Any]) -> dict[str, Any]:
    """Run STAGES; each finding is sent as a part when it is there. → {"ran": ids, "skipped": {id: why}}"""

    def found(finding: Finding) -> None:
        progress.part(as_json(finding))

    context = CheckContext(recipe, read_document(recipe.file), msgspec.convert(card, Card), watch, progress)
    outcome = run_checks(all_checks(), context, STAGES, found, progress)
    context.remember()
    made = asdict(outcome)
    del made["findings"]  # they have been sent
    return made
