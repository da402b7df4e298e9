"""Looks through all rows of a recipe for a fault, a text, a pattern or a token."""

import re
from collections.abc import Callable
from typing import Any

from tuitune.analyst.proven_set import MOST, prove
from tuitune.analyst.render_watch import RenderWatch
from tuitune.analyst.survey import survey
from tuitune.analyst.survey_document import FAULTS, KEPT_ROWS
from tuitune.analyst.whole_set import Matches
from tuitune.errors import UserError
from tuitune.recipe.recipe import Recipe
from tuitune.template.spans import UNKNOWN
from tuitune.text import printable


def find(recipe: Recipe, what: str, watch: RenderWatch, progress: Callable[[str], None], most: int = MOST) -> dict[str, Any]:
    """{"rows": the first KEPT_ROWS numbers, "count", "looked", "total"} of the rows that `what` means: a name of FAULTS, "unknown" (roles
    that cannot be attributed), "#ID" (a token), "/REGEX/", or any other text as it stands. Texts are those after the template."""
    if what in FAULTS:
        found = survey(recipe, watch, progress, most)
        return {"rows": found.faults[what], "count": found.counts[what], "looked": found.looked, "total": found.total}
    matches = None if what == UNKNOWN else matcher(what)
    proven = prove(recipe, watch, progress, most, matches)
    if proven.difference:
        raise UserError(f"texts cannot be searched here: {proven.difference}")
    prepared = proven.prepared
    if what == UNKNOWN:
        roles = prepared.roles.get(UNKNOWN)
        rows = prepared.rows[roles > 0].tolist() if roles is not None else []
    else:
        rows = prepared.rows[prepared.matched].tolist()
    return {"rows": rows[:KEPT_ROWS], "count": len(rows), "looked": len(proven.numbers), "total": len(proven.built.train.rows)}


def matcher(what: str) -> Matches:
    """Whether a text and its ids are what is looked for. UserError for a pattern that is none."""
    if re.fullmatch(r"#\d+", what):
        token = int(what[1:])
        return lambda text, ids: token in ids
    if len(what) > 2 and what[0] == what[-1] == "/":
        try:
            pattern = re.compile(what[1:-1])
        except re.error as error:
            raise UserError(f"{printable(what, limit=200)} is no pattern: {error}", exit_code=2) from None
        return lambda text, ids: pattern.search(text) is not None
    return lambda text, ids: what in text
