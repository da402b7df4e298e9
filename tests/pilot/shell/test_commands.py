"""The registry against the classes: every command has a handler where it holds."""

import pytest

from tuitune.workbench.app import Workbench
from tuitune.workbench.commands.registry import ALWAYS, KINDS, PROBLEMS, all_commands
from tuitune.workbench.views import catalog


@pytest.mark.parametrize("item", all_commands(), ids=lambda command: command.id)
def test_every_handler_exists(item):
    homes = [Workbench] if item.when in (ALWAYS, PROBLEMS) else [catalog.view_class(kind) for kind in item.when.split()]
    for home in homes:
        assert callable(getattr(home, f"action_{item.handler}", None) or getattr(Workbench, f"action_{item.handler}", None)), home


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_view_has_its_class(kind):
    assert catalog.view_class(kind).kind == kind


def test_the_catalog_names_all_kinds():
    assert tuple(catalog.KINDS) == KINDS
