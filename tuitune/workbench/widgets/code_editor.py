"""A TextArea for code over a slow line: repaints only the lines that changed, marks problems, shows control characters.

The first is public API only: a refresh of the whole widget is put off until the state is settled, then the lines on screen are drawn
and compared with those shown last, and only those that differ are refreshed. tests/pilot/editor/test_code_editor.py proves that what
reaches the terminal equals a stock TextArea after every step of a long session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.color import Color, ColorParseError
from textual.geometry import Region
from textual.strip import Strip
from textual.widgets import TextArea
from textual.widgets.text_area import TextAreaTheme

if TYPE_CHECKING:
    from tuitune.recipe.problems import Problem, Severity

LARGE = 3_000  # lines from which a text is not coloured: TextArea looks at the whole tree for every key
_RANK = {"error": 0, "warning": 1, "info": 2}
_MARKS = {"error": ("E", "error"), "warning": ("W", "warning"), "info": ("i", "primary")}
# tree-sitter's names for what stands in a YAML or JSON file, and which of the theme's colours says it
_SYNTAX = {
    "yaml.field": "primary",
    "json.label": "primary",
    "string": "success",
    "number": "warning",
    "boolean": "accent",
    "constant.builtin": "accent",
    "json.null": "accent",
    "comment": "text-muted",
}


class CodeEditor(TextArea):
    """`before_key` sees a key first and returns True when it took it (a popup above the text)."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+home", "edge(-1)", "Start of the text", show=False),
        Binding("ctrl+end", "edge(1)", "End of the text", show=False),
        Binding("shift+tab", "dedent", "Less indentation", show=False),
    ]
    DEFAULT_CSS = """
    CodeEditor { border: none; padding: 0; height: 1fr; scrollbar-size: 0 1; }
    CodeEditor:focus { border: none; }
    """

    def __init__(self, text: str = "", *, language: str | None = "yaml", read_only: bool = False, id: str | None = None) -> None:
        # By row of the widget, as drawn last: what the screen shows, or will when a repaint that is on its way has come. Textual draws a
        # line anew only after a refresh of it, so nothing is drawn that is not shown.
        self._shown: dict[int, Strip] = {}
        self._drawing = False
        self._repaint_due = False
        super().__init__(
            text,
            language=language if text.count("\n") < LARGE else None,
            soft_wrap=False,
            show_line_numbers=True,
            tab_behavior="indent",
            read_only=read_only,
            max_checkpoints=400,
            id=id,
        )
        self.set_reactive(TextArea.cursor_blink, False)
        self.set_reactive(TextArea.indent_width, 2)
        self.set_reactive(TextArea.match_cursor_bracket, False)
        self.before_key: Callable[[str], bool] | None = None
        self.typed = ""
        """What made the text what it is now: a letter, "backspace", or "" for any other key, a paste or a command. A burst of keys is in
        the text before the first change is told, so whoever is told asks what came last."""
        self._marks: dict[int, Severity] = {}
        self._spans: dict[int, list[tuple[int, int | None]]] = {}

    def on_mount(self) -> None:
        """Colours of the app's theme, now and when it changes."""
        self._use_app_colors()
        self.app.theme_changed_signal.subscribe(self, lambda _: self._use_app_colors())

    def _use_app_colors(self) -> None:
        variables = self.app.theme_variables
        styles = {}
        for name, variable in _SYNTAX.items():
            color = variables.get(variable, "")
            try:
                parsed = Color.parse(color)
            except ColorParseError:
                continue  # "auto 60%" is no colour by itself: the plain foreground will do
            styles[name] = Style(color=parsed.rich_color, italic=name == "comment")
        self.register_theme(TextAreaTheme("tuitune", syntax_styles=styles))
        self.theme = "tuitune"
        self.notify_style_update()  # the cache of drawn lines knows the theme by its name only

    def show_problems(self, problems: Sequence[Problem]) -> None:
        """Underline the problems' places and mark their lines in the gutter."""
        marks: dict[int, Severity] = {}
        spans: dict[int, list[tuple[int, int | None]]] = {}
        for problem in problems:
            line = problem.line - 1
            marks[line] = min(marks.get(line, "info"), problem.severity, key=_RANK.__getitem__)
            end = problem.end_column - 1 if problem.end_line == problem.line else None
            spans.setdefault(line, []).append((problem.column - 1, end))
        if (marks, spans) != (self._marks, self._spans):
            self._marks, self._spans = marks, spans
            self.notify_style_update()  # the cache of drawn lines does not know of marks
            self.refresh()

    # drawing

    def get_line(self, line_index: int) -> Text:
        """A line as it is drawn: characters that a terminal would act upon as visible ones, problems underlined."""
        text = self.document.get_line(line_index)
        if not text.isprintable():
            text = "".join(map(_visible, text))
        line = Text(text, end="", no_wrap=True)
        for start, end in self._spans.get(line_index, ()):
            stop = len(line) if end is None else max(end, start + 1)
            line.stylize(Style(underline=True), start, min(stop, len(line)) or 1)
        return line

    def render_line(self, y: int) -> Strip:
        strip = self._with_mark(super().render_line(y), self.scroll_offset.y + y)
        if self._drawing:
            self._shown[y] = strip
        return strip

    def _with_mark(self, strip: Strip, line: int) -> Strip:
        severity = self._marks.get(line)
        if severity is None or not self.show_line_numbers:
            return strip
        letter, variable = _MARKS[severity]
        color = self.app.theme_variables.get(variable, "")
        at = self.gutter_width - 2
        base = next((segment.style for segment in strip if segment.style), None) or Style()
        mark = base + Style(bold=True, reverse=severity == "error", color=Color.parse(color).rich_color if color else None)
        return Strip.join([strip.crop(0, at), Strip([Segment(letter, mark)], 1), strip.crop(at + 1)])

    def render_lines(self, crop: Region) -> list[Strip]:
        self._drawing = True
        try:
            return super().render_lines(crop)
        finally:
            self._drawing = False

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> CodeEditor:
        """As Textual's; a refresh of everything becomes one of the lines that differ, once this turn of the event loop is over."""
        everything = repaint and not recompose and (not regions or self.size.region in regions)
        if everything and self._shown and self.is_mounted:
            if layout:
                super().refresh(repaint=False, layout=True)
            if not self._repaint_due:
                self._repaint_due = True
                self.call_next(self._repaint_changed)
            return self
        # whole lines only: a line of which a part is repainted would be drawn, but not shown
        lines = [Region(0, region.y, max(self.size.width, region.right), region.height) for region in regions]
        super().refresh(*lines, repaint=repaint, layout=layout, recompose=recompose)
        return self

    def _repaint_changed(self) -> None:
        self._repaint_due = False
        width, height = self.size
        super().render_lines(Region())  # draws nothing, but has the theme take up the CSS as it is now
        changed = [Region(0, y, width, 1) for y in range(height) if self._shown.get(y) != self.render_line(y)]
        if changed:
            super().refresh(*changed)

    def on_resize(self) -> None:
        """Nothing shown before holds any more."""
        self._shown.clear()
        self.refresh()

    # keys

    async def _on_key(self, event: events.Key) -> None:
        """Runs before TextArea's own handler, which `prevent_default` leaves out."""
        self.typed = (event.character or "") if event.is_printable else "backspace" if event.key == "backspace" else ""
        if self.before_key is not None and self.before_key(event.key):
            event.stop()
            event.prevent_default()
        elif event.key == "escape":
            event.prevent_default()  # TextArea would move the focus; here Escape only closes what is open
        elif event.key == "enter" and not self.read_only:
            event.stop()
            event.prevent_default()
            self._new_line()
        elif event.key in _ACTIONS:
            event.stop()
            event.prevent_default()
            await self.run_action(_ACTIONS[event.key])

    async def _on_paste(self, event: events.Paste) -> None:
        """Runs before TextArea's own handler."""
        self.typed = ""

    def _new_line(self) -> None:
        """Enter keeps the indentation, and goes one level deeper below a key without a value."""
        row, column = self.selection.start
        line = self.document.get_line(row)
        indent = line[: len(line) - len(line.lstrip(" "))][:column]
        if self.language == "yaml" and line[:column].rstrip().endswith(":"):
            indent += " " * self.indent_width
        self.replace("\n" + indent, *self.selection, maintain_selection_offset=False)

    def in_turn(self, work: Callable[[], object]) -> None:
        """Do something to the text after the keys that were typed before now. The app runs its commands at once, when letters of the
        same burst (a slow line delivers many keys together) may still wait here."""

        def turn() -> None:
            self.typed = ""
            work()

        self.call_later(turn)

    async def settled(self) -> None:
        """Wait until every key typed before now is in the text. Not from a handler of the editor itself."""
        done = asyncio.Event()
        self.in_turn(done.set)
        await done.wait()

    def action_dedent(self) -> None:
        """Take up to one level of indentation from the lines of the selection."""
        if self.read_only:
            return
        first, last = sorted((self.selection.start[0], self.selection.end[0]))
        for row in range(first, last + 1):
            line = self.document.get_line(row)
            blanks = min(len(line) - len(line.lstrip(" ")), self.indent_width)
            if blanks:
                self.replace("", (row, 0), (row, blanks))

    def _moved_popup(self, key: str) -> bool:
        return self.before_key is not None and self.before_key(key)

    def action_edge(self, by: int) -> None:
        """The start or the end of the text."""
        self.move_cursor(self.document.start if by < 0 else self.document.end)

    def action_cursor_up(self, select: bool = False) -> None:
        if not self._moved_popup("up"):
            super().action_cursor_up(select)

    def action_cursor_down(self, select: bool = False) -> None:
        if not self._moved_popup("down"):
            super().action_cursor_down(select)

    def action_cursor_page_up(self) -> None:
        if not self._moved_popup("pageup"):
            super().action_cursor_page_up()

    def action_cursor_page_down(self) -> None:
        if not self._moved_popup("pagedown"):
            super().action_cursor_page_down()


# Textual runs a binding only after the key has bubbled up to the app, when letters typed after it are already in the text: "End, x" in one
# burst over a slow line would put the x before the move. The editor's own keys are therefore run where they arrive.
_ACTIONS = {
    key.strip(): binding.action
    for binding in [*TextArea.BINDINGS, *CodeEditor.BINDINGS]
    if isinstance(binding, Binding)
    for key in binding.key.split(",")
}


def _visible(character: str) -> str:
    """One character for one, so that columns stay. A tab is drawn by TextArea itself."""
    if character.isprintable() or character == "\t":
        return character
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else "\N{SYMBOL FOR DELETE}" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"
