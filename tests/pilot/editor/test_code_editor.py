"""CodeEditor beside a TextArea that repaints itself whole: the terminal shows the same after every step, for a fraction of the cells."""

from collections.abc import Callable
from typing import Any

import pytest
from rich.cells import get_character_cell_size
from rich.style import Style
from textual import events
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.strip import Strip
from textual.widgets import Input, Static, TextArea

from tuitune.recipe.problems import Problem
from tuitune.workbench.terminal.cell_diff import placed_strips
from tuitune.workbench.widgets.code_editor import CodeEditor

TEXT = "\n".join(
    [
        "# 漢字 🦜 e\u0301 wide and combining",
        "name: demo",
        "model:",
        "  name_or_path: 'a string'   # 漢",
        "\ttab:\tand\ttab",
        "  flags: [true, 12, null]",
        "  long: " + "0123456789 漢字 " * 30,
        "",
        *(f"  key_{number}: {number}" for number in range(60)),
    ]
)


class Whole(CodeEditor):
    """The same editor with TextArea's own painting: every change repaints all of it."""

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> "Whole":
        return TextArea.refresh(self, *regions, repaint=repaint, layout=layout, recompose=recompose)

    def render_lines(self, crop: Region) -> list[Strip]:
        return TextArea.render_lines(self, crop)


class Stage(App[None]):
    """An editor between two lines that change when they like, with a box that comes and goes above it. Keeps what a terminal shows."""

    CSS = """
    Screen { layers: base popup; }
    #above, #below, Input { height: 1; border: none; }
    #box { layer: popup; width: 20; height: 5; offset: 6 4; background: $panel; display: none; }
    """

    def __init__(self, editor: CodeEditor) -> None:
        super().__init__()
        self.code = editor
        self.cells: dict[tuple[int, int], tuple[str, Style | None]] = {}
        self.painted = 0
        self.animation_level = "none"

    def compose(self) -> ComposeResult:
        yield Static("above", id="above")
        yield self.code
        yield Static("below", id="below")
        yield Input()
        yield Static("box", id="box")

    def _display(self, screen: Any, renderable: Any) -> None:
        for x, y, strip in placed_strips(renderable) if renderable is not None else ():
            for segment in strip:
                for character in segment.text:
                    width = get_character_cell_size(character)
                    if not width:
                        self.cells[x - 1, y] = (self.cells[x - 1, y][0] + character, segment.style)
                    for cell in range(width):
                        self.cells[x + cell, y] = ("" if cell else character, segment.style)
                    x += width
                    self.painted += width


def say(where: str, text: str) -> Callable[[Stage], object]:
    return lambda app: app.query_one(where, Static).update(text)


def on_editor(work: Callable[[CodeEditor], object]) -> Callable[[Stage], object]:
    return lambda app: work(app.code)


def type_while_others_paint(app: Stage) -> None:
    """A line above and one below change in the same turn as the text: the compositor then draws everything between them too."""
    app.query_one("#above", Static).update("other")
    app.code.insert("typed ")
    app.query_one("#below", Static).update("other")
    app.screen._compositor.update_widgets({app.query_one("#above"), app.query_one("#below")})
    app._display(app.screen, app.screen._compositor.render_update())


def part_of_a_line(app: Stage) -> None:
    """A few cells of a line are painted before the editor gets to repaint what was typed in the same line."""
    app.code.insert("x")
    app.code.refresh(Region(0, 0, 5, 1))
    app.screen._compositor.update_widgets({app.code})
    app._display(app.screen, app.screen._compositor.render_update())


def there_and_back(app: Stage) -> None:
    """And the text is as before when the editor gets to it."""
    part_of_a_line(app)
    app.code.undo()


def new_theme(name: str) -> Callable[[Stage], object]:
    return lambda app: setattr(app, "theme", name)


def show_box(shown: bool) -> Callable[[Stage], object]:
    return lambda app: setattr(app.query_one("#box"), "display", shown)


PROBLEMS = [
    Problem("RCP001", "error", "one", 2, 1, 2, 5),
    Problem("RCP001", "warning", "two", 4, 3, 5, 2),
    Problem("RCP001", "info", "three", 6, 40, 6, 41),
]

STEPS: list[tuple[str, str | Callable[[Stage], object]]] = [
    ("typing", "a b c"),
    ("a wide letter and a joined one", on_editor(lambda code: code.insert("漢e\u0301"))),
    ("new line", "enter"),
    ("erasing", "backspace backspace delete"),
    ("moving", "down down right right up end home"),
    ("undo", on_editor(CodeEditor.undo)),
    ("redo", on_editor(CodeEditor.redo)),
    ("marks", on_editor(lambda code: code.show_problems(PROBLEMS))),
    ("typing among marks", "x y"),
    ("marks gone", on_editor(lambda code: code.show_problems([]))),
    ("on the tab line", on_editor(lambda code: code.move_cursor((4, 6)))),
    ("a tab is typed", "tab x shift+tab"),
    ("along a very long line", on_editor(lambda code: code.move_cursor((6, 250)))),
    ("typing far to the right", "z z"),
    ("back to the left", "home"),
    ("selecting", "shift+down shift+down shift+end"),
    ("replacing the selection", "q"),
    ("everything selected", on_editor(CodeEditor.select_all)),
    ("nothing selected", on_editor(lambda code: code.move_cursor((3, 3)))),
    ("lines pasted", on_editor(lambda code: code.insert("one\ntwo: 2\n# three\n"))),
    ("a page down", "pagedown pagedown"),
    ("typing below", "k"),
    ("to the end", "ctrl+end"),
    ("to the start", "ctrl+home"),
    ("the wheel", lambda app: app.code.scroll_relative(y=7, animate=False)),
    ("the wheel back", lambda app: app.code.scroll_home(animate=False)),
    ("the keyboard goes", lambda app: app.query_one(Input).focus()),
    ("the keyboard comes", lambda app: app.code.focus()),
    ("others paint at once", type_while_others_paint),
    ("and then typing", "u"),
    ("part of a line", part_of_a_line),
    ("there and back", there_and_back),
    ("a box above", show_box(True)),
    ("typing under the box", "down down down down down w w"),
    ("the box gone", show_box(False)),
    ("light", new_theme("textual-light")),
    ("typing in the light", "down l"),
    ("ansi", new_theme("ansi-dark")),
    ("typing in ansi", "m"),
    ("dark", new_theme("textual-dark")),
    ("read-only", on_editor(lambda code: setattr(code, "read_only", True))),
    ("and not", on_editor(lambda code: setattr(code, "read_only", False))),
    ("another text", on_editor(lambda code: code.load_text("one: 1\n" * 120))),
    ("more digits", on_editor(lambda code: code.move_cursor((99, 0)))),
    ("an empty text", on_editor(lambda code: code.load_text(""))),
    ("first letters", "a colon"),
]


async def session(editor: CodeEditor, size: tuple[int, int]) -> tuple[list[dict[tuple[int, int], Any]], int]:
    """What the terminal shows after each step, and how many cells were painted in all."""
    app = Stage(editor)
    shown = []
    async with app.run_test(size=size) as pilot:
        app.code.focus()
        await pilot.pause()
        for _, step in STEPS:
            if callable(step):
                step(app)
            else:
                await pilot.press(*step.split())
            await pilot.pause()
            shown.append(dict(app.cells))
        for new in ((size[0] - 17, size[1] - 5), size):
            app.cells.clear()
            await pilot.resize_terminal(*new)
            await pilot.press("x")
            await pilot.pause()
            shown.append(dict(app.cells))
    return shown, app.painted


@pytest.mark.parametrize("size", [(80, 24), (50, 12)])
async def test_the_terminal_shows_what_a_textarea_would_show_after_every_step(size: tuple[int, int]) -> None:
    lean, lean_cells = await session(CodeEditor(TEXT), size)
    whole, whole_cells = await session(Whole(TEXT), size)
    for (name, _), ours, theirs in zip([*STEPS, ("smaller", ""), ("larger", "")], lean, whole, strict=True):
        assert {at: (ours.get(at), theirs.get(at)) for at in ours.keys() | theirs.keys() if ours.get(at) != theirs.get(at)} == {}, name
    assert lean_cells < whole_cells * 0.7  # many steps really change everything


async def test_a_key_repaints_one_line_and_a_move_two() -> None:
    """In a file of 10,000 lines as well. (The scroll bar is painted along when the text grows.)"""
    app = Stage(CodeEditor("key: value\n" * 10_000))
    async with app.run_test(size=(80, 24)) as pilot:
        app.code.focus()
        await pilot.pause()
        for key, lines in (("x", 1), ("down", 2), ("backspace", 1)):
            app.painted = 0
            await pilot.press(key)
            await pilot.pause()
            assert 0 < app.painted <= lines * 80 + 21, key


async def test_without_problems_a_line_looks_as_textarea_draws_it() -> None:
    """Same theme, same text: our drawing adds nothing of its own."""

    class Both(App[None]):
        CSS = "CodeEditor, TextArea { height: 12; border: none; padding: 0; scrollbar-size: 1 1; }"

        def compose(self) -> ComposeResult:
            yield CodeEditor(TEXT, id="ours")
            stock = TextArea(TEXT, language="yaml", soft_wrap=False, show_line_numbers=True, tab_behavior="indent", id="stock")
            stock.cursor_blink, stock.indent_width, stock.match_cursor_bracket = False, 2, False
            yield stock

    app = Both()
    async with app.run_test(size=(80, 26)) as pilot:
        await pilot.pause()
        ours, stock = app.query_one(CodeEditor), app.query_one("#stock", TextArea)
        stock.register_theme(ours._theme)
        stock.theme = ours.theme
        for editor in (ours, stock):
            editor.focus()
            await pilot.pause()
            editor.selection = editor.selection._replace(end=(2, 3))
            await pilot.pause()
        app.query_one("#ours").focus()
        await pilot.pause()
        ours_blurred = [ours.render_line(y).text for y in range(12)]
        assert ours_blurred == [stock.render_line(y).text for y in range(12)]
        assert [segment.style for segment in ours.render_line(5)] == [segment.style for segment in stock.render_line(5)]


async def test_characters_that_a_terminal_would_act_upon_are_drawn_as_pictures() -> None:
    text = "a: \x1b]0;title\x07 \x7f \x9b31m \u202e \u00a0 \ufeff\n# a longer line gives it room to the right\n"
    app = Stage(CodeEditor(text))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        shown = app.code.render_line(0).text
        assert "a: ␛]0;title␇ ␡ �31m � � �" in shown
        assert app.code.text == text


async def test_a_problem_is_seen_without_colours() -> None:
    """Underlined in the text, a letter beside the line number; the worst one of a line counts."""
    app = Stage(CodeEditor("one: 1\ntwo: 2\nthree: 3\n"))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        kinds = [("warning", 1), ("error", 1), ("info", 2), ("warning", 2), ("info", 3)]
        app.code.show_problems([Problem("RCP001", kind, "", line, 1, line, 4) for kind, line in kinds])
        await pilot.pause()
        letters = [app.code.render_line(y).text[: app.code.gutter_width].strip(" 1234") for y in range(4)]
        assert letters == ["E", "W", "i", ""]
        underlined = "".join(segment.text for segment in app.code.render_line(0) if segment.style and segment.style.underline)
        assert underlined == "one"


async def test_enter_keeps_the_indentation_and_goes_deeper_below_a_bare_key() -> None:
    app = Stage(CodeEditor("model:\n  name: x"))
    async with app.run_test(size=(80, 24)) as pilot:
        app.code.focus()
        app.code.move_cursor((1, 9))
        await pilot.press("enter", "y", "ctrl+home", "end", "enter", "z")
        assert app.code.text == "model:\n  z\n  name: x\n  y"


async def test_shift_tab_takes_one_level_from_every_line_of_the_selection() -> None:
    app = Stage(CodeEditor("    a: 1\n b: 2\nc: 3"))
    async with app.run_test(size=(80, 24)) as pilot:
        app.code.focus()
        await pilot.pause()
        app.code.select_all()
        await pilot.press("shift+tab")
        assert app.code.text == "  a: 1\nb: 2\nc: 3"


async def test_work_waits_for_the_letters_typed_before_it() -> None:
    """A command that the app runs at once must find the text as it was typed."""
    app = Stage(CodeEditor(""))
    async with app.run_test(size=(80, 24)) as pilot:
        app.code.focus()
        await pilot.pause()
        seen: list[str] = []
        for letter in "abc":
            app.code.post_message(events.Key(letter, letter))
        app.code.in_turn(lambda: seen.append(app.code.text))
        app.code.post_message(events.Key("d", "d"))
        assert app.code.text == ""
        await app.code.settled()
        assert seen == ["abc"]
        assert app.code.text == "abcd"
