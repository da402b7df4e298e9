"""The workbench's one analyst: made when it is first asked for, ended with the workbench (its input ends then)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from textual.app import App

    from tuitune.analyst.client import Analyst

_ANALYSTS: WeakKeyDictionary[App[Any], Analyst] = WeakKeyDictionary()


def analyst_of(app: App[Any]) -> Analyst:
    """The analyst of this app, warming up in the background from now on."""
    from tuitune.analyst.client import Analyst

    if app not in _ANALYSTS:
        _ANALYSTS[app] = Analyst()
        _ANALYSTS[app].start()
    return _ANALYSTS[app]
