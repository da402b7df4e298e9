"""Reads what the plan view starts from, and asks the analyst where a model's family has no formula. Runs in a thread of the view's."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.app import App

from tuitune.analyst.client import Cancelled
from tuitune.errors import UserError
from tuitune.preflight.cards import Card
from tuitune.workbench.analysis import analyst_of
from tuitune.workbench.views.plan.reading import Basis, read

NO_FORMULA = "no formula for this family: a model without memory is measured, once"


def ask(
    app: App[Any],
    path: Path,
    card: Card | None,
    cancel: threading.Event,
    told: Callable[[str], None],
    answered: Callable[[Basis | None, str], object],
) -> None:
    """Read the recipe for a card (None: this box's). told: what takes so long; answered: the basis, or None and why there is no plan. It is
    not called once `cancel` is set."""

    def count(wishes: dict[str, Any]) -> dict[str, Any]:
        told(NO_FORMULA)
        return analyst_of(app).request("memory", wishes, progress=told, cancel=cancel)

    try:
        basis, refused = read(path, card, count), ""
    except Cancelled:
        return
    except UserError as error:
        basis, refused = None, str(error)
    except Exception as error:  # a thread that ended without a word would leave "reading" standing for ever
        basis, refused = None, f"no plan could be made: {type(error).__name__}: {error}; please report this"
    if not cancel.is_set():
        answered(basis, refused)
