"""The workbench's one analyst and one reader: each made when it is first asked for, ended with the workbench."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from tuitune.errors import UserError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from textual.app import App

    from tuitune.analyst.client import Analyst
    from tuitune.dataset.reader.client import Reader
    from tuitune.workbench.actions import Actions

Document = TypeVar("Document")

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


def ask_document(
    app: App[Any],
    op: str,
    args: dict[str, Any],
    kind: type[Document],
    cancel: threading.Event,
    told: Callable[[str, bool], object],
    answered: Callable[[Document], object],
) -> None:
    """Ask the analyst for a document of this kind, in a thread of the caller's: it blocks, and calls back from there.

    told: a sentence about what goes on, or (True) why it failed; answered: the document. Neither is called once `cancel` is set.
    """
    import msgspec

    from tuitune.analyst.client import Cancelled

    def tell(text: str) -> None:
        if not cancel.is_set():
            told(f"{text} …", False)

    try:
        document = msgspec.convert(analyst_of(app).request(op, args, progress=tell, cancel=cancel), kind, strict=False)
    except Cancelled:
        return
    except UserError as error:
        if not cancel.is_set():
            told(str(error), True)
        return
    if not cancel.is_set():
        answered(document)


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
