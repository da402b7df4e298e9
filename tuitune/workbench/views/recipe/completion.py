"""Completion: when the list of what fits opens, what it shows, and how the chosen one gets into the text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from tuitune.text import printable
from tuitune.workbench.widgets.code_editor import LARGE, CodeEditor
from tuitune.workbench.widgets.line_list import LineList

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from tuitune.recipe.complete import Completion
    from tuitune.recipe.schema import Schema

MAX_ROWS = 8
DOC_ROWS = 3
WIDTH = 58
OFFER_AFTER = 2  # letters of a key before the list opens by itself
MANY = 40  # values that are not listed before something of them is typed
_KEY_BEFORE = re.compile(r"(?:^[ -]*|[{,]\s*)(\w*)$")
_VALUE_BEFORE = re.compile(r":[ ]+(?:\[.*)?\S*$")


class CompletionPopup(Vertical):
    """Never has the keyboard: the editor passes keys on while it is open. Sits on a layer above the text."""

    DEFAULT_CSS = """
    CompletionPopup { layer: popup; display: none; width: 58; height: auto; background: $panel; border: none; }
    CompletionPopup LineList { height: auto; background: $panel; }
    CompletionPopup Static { height: 3; padding: 0 1; background: $surface; color: $text-muted; }
    """

    def __init__(self, code: CodeEditor, schema: Callable[[], Schema | None]) -> None:
        super().__init__()
        self.items: list[Completion] = []
        self._code = code
        self._schema = schema
        self._asked = False  # opened by the user, not by itself while typing: then Enter takes
        self._chosen = False  # the user has moved in the list: then Enter takes as well
        self._place = (0, 0)  # row and column (from 0) where the completed word begins
        self._list = LineList()
        self._list.can_focus = False
        self._doc = Static(markup=False)

    def compose(self) -> ComposeResult:
        yield self._list
        yield self._doc

    @property
    def open(self) -> bool:
        """Whether it is on screen."""
        return bool(self.display)

    def close(self) -> None:
        """Take it off the screen."""
        self.display = False

    # when it opens and closes

    def after_typing(self) -> None:
        """A letter was typed or erased: open, follow or close."""
        row, column = self._code.cursor_location
        before = self._code.document.get_line(row)[:column]
        key, value = _KEY_BEFORE.search(before), _VALUE_BEFORE.search(before)
        if self.open and self._asked and (row, column) >= self._place:
            self.offer(asked=True)
        elif (key and len(key[1]) >= OFFER_AFTER) or (value and not key):
            self.offer(asked=False)
        else:
            self.close()

    def after_move(self) -> None:
        """The cursor moved: away from the word means that the word was not meant."""
        row, column = self._code.cursor_location
        if self.open and (row != self._place[0] or column < self._place[1]):
            self.close()

    def offer(self, *, asked: bool) -> bool:
        """Open the list of what fits at the cursor, if anything does. asked: by the user, so even when there is nothing to gain."""
        schema = self._schema()
        if schema is None or self._code.read_only or (self._code.document.line_count > LARGE and not asked):
            return False
        from tuitune.recipe.complete import complete

        row, column = self._code.cursor_location
        items = complete("\n".join(self._code.document.lines), row + 1, column + 1, schema)
        start = items[0].replace_from_column - 1 if items else column
        typed = self._code.document.get_line(row)[start:column]
        complete_already = bool(items) and items[0].text.rstrip(": ") == typed.rstrip(": ")
        too_many = bool(items) and items[0].kind == "value" and not typed and len(items) > MANY
        if not items or (not asked and (complete_already or too_many)):
            self.close()
            return False
        self.items, self._asked, self._chosen, self._place = items, asked, False, (row, start)
        self._list.show([_row(item) for item in items])
        self._list.cursor = 0
        self._show_doc()
        self._put_beside(len(typed))
        self.display = True
        return True

    def _put_beside(self, typed: int) -> None:
        """Below the cursor's line, or above it where there is more room; as many rows as fit."""
        view = self._code.region
        x, y = self._code.cursor_screen_offset - view.offset
        below = view.height - y - 1
        wanted = min(len(self.items), MAX_ROWS) + DOC_ROWS
        room = below if below >= wanted or below >= y else y
        with_doc = room >= DOC_ROWS + 2
        rows = max(1, min(len(self.items), MAX_ROWS, room - DOC_ROWS * with_doc))
        width = min(WIDTH, view.width)
        self._doc.display = with_doc
        self._list.styles.max_height = rows
        self.styles.width = width
        top = y + 1 if room == below else y - rows - DOC_ROWS * with_doc
        self.styles.offset = (max(0, min(x - typed - 3, view.width - width)), max(0, top))

    # what it does with keys

    def take_key(self, key: str) -> bool:
        """Whether the key was meant for the list."""
        if not self.open:
            return False
        if key in ("up", "down", "pageup", "pagedown"):
            self._move({"up": -1, "down": 1, "pageup": 1 - MAX_ROWS, "pagedown": MAX_ROWS - 1}[key])
            return True
        if key == "escape":
            self.close()
            return True
        if key == "tab" or (key == "enter" and (self._asked or self._chosen)):
            self.take()
            return True
        if key in ("enter", "left", "right", "home", "end"):
            self.close()
        return False

    def _move(self, by: int) -> None:
        """A line round the end, a page up to it."""
        self._chosen = True
        last = len(self.items) - 1
        to = self._list.cursor + by
        self._list.cursor = to % (last + 1) if abs(by) == 1 else max(0, min(to, last))
        self._show_doc()

    def take(self) -> None:
        """Put the chosen one into the text and close."""
        self.close()
        item = self.items[self._list.cursor]
        row, column = self._code.cursor_location
        after = self._code.document.get_line(row)[column:]
        rest = re.match(r"\w*", after)
        end = column + (rest.end() if rest else 0)
        text = item.text
        if item.kind != "value" and after[end - column :].lstrip().startswith(":"):
            text = text.rstrip(": ")  # the key has its colon already
        self._code.history.checkpoint()
        self._code.typed = item.text  # as if typed by hand: behind a key the list of its values opens
        self._code.replace(text, (row, item.replace_from_column - 1), (row, end), maintain_selection_offset=False)

    def _show_doc(self) -> None:
        item = self.items[self._list.cursor]
        self._doc.update(printable(" ".join((item.doc or item.detail).split()), limit=(WIDTH - 2) * DOC_ROWS - 30))


def _row(item: Completion) -> Content:
    mark = {"section": "▸", "key": "·", "value": "="}[item.kind]
    return Content.assemble((f" {mark} ", "$text-muted"), printable(item.text.rstrip(": ")), (f"  {printable(item.detail)}", "$text-muted"))
