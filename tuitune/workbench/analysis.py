"""The workbench's one analyst: made when it is first asked for, ended with the workbench (its input ends then)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from textual.app import App

    from tuitune.analyst.client import Analyst
    from tuitune.workbench.actions import Actions

_ANALYSTS: WeakKeyDictionary[App[Any], Analyst] = WeakKeyDictionary()


WARM_UP = 1.5  # seconds after the first paint until the analyst is started: its imports take a core for some seconds


def warm_up(app: Actions) -> None:
    """Have the analyst warm by the time somebody looks at rows; a folder without a recipe has no rows to look at."""

    def start() -> None:
        if app.seen is not None and app.seen.workspace.recipes:
            app.run_worker(lambda: analyst_of(app), thread=True, group="analyst", exit_on_error=False)

    app.set_timer(WARM_UP, start)


def analyst_of(app: App[Any]) -> Analyst:
    """The analyst of this app, warming up in the background from now on."""
    from tuitune.analyst.client import Analyst

    if app not in _ANALYSTS:
        _ANALYSTS[app] = Analyst()
        _ANALYSTS[app].start()
    return _ANALYSTS[app]
