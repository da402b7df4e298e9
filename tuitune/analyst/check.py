"""The analyst's half of preflight: the stages that need tokenizer, rows and weights."""

from contextlib import suppress
from typing import Any

import msgspec

from tuitune.analyst.check_context import CheckContext
from tuitune.analyst.render_watch import SLOTS, RenderWatch
from tuitune.analyst.server import Told
from tuitune.analyst.shards import beside
from tuitune.errors import UserError
from tuitune.preflight.cards import Card
from tuitune.preflight.finding import Finding, NotHere, as_json
from tuitune.preflight.registry import Check, Stage, all_checks
from tuitune.preflight.run import NOT_CHECKED, Outcome, run_checks
from tuitune.recipe.document import read_document
from tuitune.recipe.recipe import Recipe

STAGES = (Stage.TOKENIZER, Stage.DATA, Stage.ROWS, Stage.WEIGHTS, Stage.MODEL)
ASIDE = {Stage.DATA: ("DAT", "PREF", "TPL17"), Stage.MODEL: ("EMB", "PEFT")}  # checks that need nothing of the whole preparation


def check(recipe: Recipe, watch: RenderWatch, progress: Told, card: dict[str, Any]) -> dict[str, Any]:
    """Run STAGES, those of ASIDE in a process beside it; findings are sent as parts as they come. → {"ran": ids, "skipped": {id: why}}"""

    def found(finding: Finding) -> None:
        progress.part(as_json(finding))

    context = CheckContext(recipe, read_document(recipe.file), msgspec.convert(card, Card), watch, progress)
    with suppress(UserError, NotHere):  # both processes need them; what is wrong with them is told by the checks that ask
        context.tokenizer  # noqa: B018
    aside = [one for one in all_checks() if _aside(one)]

    def look_aside() -> Outcome:
        watch.slot = SLOTS - 1
        return run_checks(aside, context, ASIDE)

    other = beside(look_aside)
    outcome = run_checks([one for one in all_checks() if not _aside(one)], context, STAGES, found, progress)
    progress.afterwards.append(context.remember)
    more = other()
    told = {finding.message for finding in outcome.findings if finding.id == NOT_CHECKED}
    for finding in more.findings:
        if finding.message not in told:
            found(finding)
    return {"ran": outcome.ran + more.ran, "skipped": outcome.skipped | more.skipped}


def _aside(check: Check) -> bool:
    stages = [stage for stage in check.stages if stage in STAGES]
    return bool(stages) and all(check.id.startswith(ASIDE.get(stage, ("-",))) for stage in stages)
