"""A TextArea for code over a slow line: repaints only the lines that changed, marks problems, shows control characters.

The first is public API only: a refresh of the whole widget is put off until the state is settled, then the lines on screen are drawn
and compared with those shown last, and only regions that differ are refreshed. tests/pilot/editor proves it equal to a stock TextArea.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual._text_area_theme import TextAreaTheme
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.geometry import Region
from textual.strip import Strip
from textual.widgets import TextArea

if TYPE_CHECKING:
    from tuitune.recipe.problems import Problem

# Control characters one to one as pictures, so that columns stay; a tab is drawn by TextArea itself.
_SHOWN = {code: 0x2400 + code for code in range(0x20) if code != 0x09} | {0x7F: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
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
    ]
    DEFAULT_CSS = """
    CodeEditor { border: none; padding: 0; height: 1fr; scrollbar-size: 1 1; }
    CodeEditor:focus { border: none; }
    """

    def __init__(self, text: str = "", *, language: str | None = "yaml", read_only: bool = False, id: str | None = None) -> None:
        super().__init__(
            text,
            language=language,
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
        self._marks: dict[int, Problem] = {}
        self._spans: dict[int, list[tuple[int, int | None]]] = {}
        self._painted: dict[int, Strip] = {}
        self._repaint_due = False

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
                styles[name] = Style(color=Color.parse(color).rich_color, italic=name == "comment")
            except Exception:
                continue  # "auto 60%" and the like are no colour by themselves: the plain foreground will do
        self.register_theme(TextAreaTheme("tuitune", syntax_styles=styles))
        self.theme = "tuitune"

    def show_problems(self, problems: Sequence[Problem]) -> None:
        """Underline the problems' places and mark their lines in the gutter."""
        self._marks, self._spans = {}, {}
        for problem in problems:
            line = problem.line - 1
            if line not in self._marks or _RANK[problem.severity] < _RANK[self._marks[line].severity]:
                self._marks[line] = problem
            end = problem.end_column - 1 if problem.end_line == problem.line else None
            self._spans.setdefault(line, []).append((problem.column - 1, end))
        self.notify_style_update()  # the cache of drawn lines does not know of marks
        self.refresh()

    # drawing

    def get_line(self, line_index: int) -> Text:
        """A line as it is drawn: control characters as pictures, problems underlined."""
        line = super().get_line(line_index)
        if not line.plain.isprintable():
            line = Text(line.plain.translate(_SHOWN), end="", no_wrap=True)
        for start, end in self._spans.get(line_index, ()):
            stop = len(line) if end is None else max(end, start + 1)
            line.stylize(Style(underline=True), start, min(stop, len(line)) or 1)
        return line

    def render_line(self, y: int) -> Strip:
        strip = super().render_line(y)
        problem = self._marks.get(self.scroll_offset.y + y)
        if problem is None or not self.show_line_numbers:
            return strip
        letter, variable = _MARKS[problem.severity]
        color = self.app.theme_variables.get(variable, "")
        at = self.gutter_width - 2
        base = next((segment.style for segment in strip if segment.style), None) or Style()
        mark = base + Style(bold=True, reverse=problem.severity == "error", color=Color.parse(color).rich_color if color else None)
        return Strip.join([strip.crop(0, at), Strip([Segment(letter, mark)], 1), strip.crop(at + 1)])

    def render_lines(self, crop: Region) -> list[Strip]:
        strips = super().render_lines(crop)
        if crop.x == 0 and crop.width >= self.size.width:
            self._painted.update(enumerate(strips, crop.y))
        return strips

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> CodeEditor:
        """As Textual's; a refresh of everything becomes one of the lines that differ, once this turn of the event loop is over."""
        whole = repaint and not (regions or layout or recompose)
        if whole and getattr(self, "_painted", None) and self.is_mounted:
            if not self._repaint_due:
                self._repaint_due = True
                self.call_next(self._repaint_changed)
            return self
        super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)
        return self

    def _repaint_changed(self) -> None:
        self._repaint_due = False
        width, height = self.size
        if self._theme:
            self._theme.apply_css(self)
        changed = [Region(0, y, width, 1) for y in range(height) if self._painted.get(y) != self.render_line(y)]
        for region in changed:
            self._painted.pop(region.y, None)
        if changed:
            super().refresh(*changed)

    def on_resize(self) -> None:
        """Nothing painted before holds any more."""
        self._painted.clear()

    # keys

    async def _on_key(self, event: events.Key) -> None:
        """Runs before TextArea's own handler, which `prevent_default` leaves out."""
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

    def _new_line(self) -> None:
        """Enter keeps the indentation, and goes one level deeper below a key without a value."""
        row, column = self.selection.start
        line = self.document.get_line(row)
        indent = line[: len(line) - len(line.lstrip(" "))][:column]
        if self.language == "yaml" and line[:column].rstrip().endswith(":"):
            indent += " " * self.indent_width
        self.replace("\n" + indent, *self.selection, maintain_selection_offset=False)

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
