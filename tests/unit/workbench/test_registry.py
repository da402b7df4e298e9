"""One registry of commands: what is made from it, and that it holds together."""

from pathlib import Path

import pytest

from tuitune.workbench.commands import registry
from tuitune.workbench.commands.registry import ALWAYS, FORBIDDEN_KEYS, KINDS, Command, all_commands, clashes, footer_commands, key_label

README = Path(__file__).parents[3] / "README.md"


def command(id: str, keys: tuple[str, ...] = (), when: str = ALWAYS) -> Command:
    return Command(id, id, keys, when, "handler", "Help.")


def test_ids_are_unique():
    ids = [command.id for command in all_commands()]
    assert len(ids) == len(set(ids))


def test_no_key_has_two_meanings_in_one_place():
    assert clashes(all_commands()) == []


def test_a_clash_is_found():
    assert clashes([command("a", ("f5",), "recipe"), command("b", ("f5",), "run")]) == []
    assert clashes([command("a", ("f5",), "recipe run"), command("b", ("f5",), "run")]) == ["f5 means a and b in run"]
    assert clashes([command("a", ("f5",)), command("b", ("f5",), "run")]) == ["f5 means a and b in run"]


def test_no_key_that_terminals_swallow():
    assert [(command.id, key) for command in all_commands() for key in command.keys if key in FORBIDDEN_KEYS] == []


def test_letters_belong_to_views():
    """A plain key bound everywhere would be taken from every text field."""
    assert [command.id for command in all_commands() if command.when == ALWAYS and any(map(registry.is_plain, command.keys))] == []


@pytest.mark.parametrize("item", all_commands(), ids=lambda command: command.id)
def test_every_command_can_be_found_and_understood(item):
    assert item.title
    assert item.title[0].isupper()
    assert item.help
    assert not item.help.endswith(".")
    assert item.when == ALWAYS or set(item.when.split()) <= {*KINDS, registry.PROBLEMS}


def test_the_footer_has_the_views_own_keys_first_and_few():
    hints = footer_commands("recipe")
    assert len(hints) <= registry.MAX_FOOTER
    assert hints[0].when == "recipe"
    assert all(command.keys for command in hints)


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("ctrl+p", "Ctrl+P"),
        ("f5", "F5"),
        ("shift+f5", "Shift+F5"),
        ("alt+full_stop", "Alt+."),
        ("ctrl+backslash", "Ctrl+\\"),
        ("l", "l"),
        ("escape", "Esc"),
    ],
)
def test_key_labels(key, label):
    assert key_label(key) == label


@pytest.mark.parametrize(
    ("key", "plain"),
    [("l", True), ("shift+tab", True), ("left", True), ("f5", False), ("shift+f8", False), ("ctrl+s", False), ("alt+1", False)],
)
def test_plain_keys(key, plain):
    assert registry.is_plain(key) is plain


def test_the_readme_has_this_key_table():
    text = README.read_text(encoding="utf-8")
    table = text.partition("<!-- keys -->")[2].partition("<!-- /keys -->")[0]
    assert table.strip() == registry.key_table().strip(), "write it with: python -m tuitune.workbench.commands.registry"


def test_no_command_takes_a_key_that_a_find_bar_needs() -> None:
    """Commands come first wherever the keyboard is, so theirs would never reach the bar."""
    from tuitune.workbench.views.dataset.find_bar import RowFindBar as DatasetFindBar
    from tuitune.workbench.views.recipe.find_bar import FindBar as RecipeFindBar

    taken = {key for command in all_commands() for key in command.keys}
    for bar in (RecipeFindBar, DatasetFindBar):
        needed = {binding.key for binding in bar.BINDINGS if binding.key.startswith("alt+")}  # type: ignore[union-attr]
        assert not needed & taken
