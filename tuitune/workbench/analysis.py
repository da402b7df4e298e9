"""The workbench's one analyst and one reader: each made when it is first asked for, ended with the workbench."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from textual.app import App

    from tuitune.analyst.client import Analyst
    from tuitune.dataset.reader.client import Reader
    from tuitune.workbench.actions import Actions

_ANALYSTS: WeakKeyDictionary[App[Any], Analyst] = WeakKeyDictionary()
_READERS: WeakKeyDictionary[App[Any], Reader] = WeakKeyDictionary()


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


def reader_of(app: App[Any]) -> Reader:
    """The reader of this app; its process starts with the first request."""
    from tuitune.dataset.reader.client import Reader

    if app not in _READERS:
        _READERS[app] = Reader()
    return _READERS[app]


def end_helpers(app: App[Any]) -> None:
    """The workbench is closing: so do they."""
    for helper in (_ANALYSTS.pop(app, None), _READERS.pop(app, None)):
        if helper is not None:
            helper.close()
