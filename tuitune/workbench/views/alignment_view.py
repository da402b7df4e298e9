"""Whether tokenizer, embedding, configuration and adapter of a recipe fit together: tokens against rows, ends side by side, coverage.

The analyst reads rows out of the weight files without loading them; the view shows the recipe as it is on disk.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.events import Resize
from textual.message import Message

from tuitune.text import printable
from tuitune.workbench.analysis import ask_document
from tuitune.workbench.commands import alignment as commands
from tuitune.workbench.parts.gpu_panel import wrapped
from tuitune.workbench.parts.role_lines import Line, RoleLines, as_content
from tuitune.workbench.views.alignment import lines as drawn
from tuitune.workbench.views.view import View
from tuitune.workbench.widgets.line_list import LineList

if TYPE_CHECKING:
    from tuitune.preflight.alignment import Alignment

WAITING = "waiting for the analyst …"
ABOUT = 4  # lines for what is said of the line under the cursor
KEYS = "Tab t e c pages · n next fault · r look again"


class AlignmentView(View):
    """`path` is the recipe; `page` one of lines.PAGES."""

    kind = "alignment"
    commands: ClassVar = commands.COMMANDS
    DEFAULT_CSS = """
    AlignmentView { layout: vertical; padding: 0 1; }
    AlignmentView > RoleLines { height: auto; }
    AlignmentView > LineList { height: 1fr; margin-top: 1; }
    AlignmentView > #alignment-about { margin-top: 1; }
    """

    class Told(Message):
        """The analyst says what it does, or why it failed."""

        def __init__(self, text: str, failed: bool = False) -> None:
            super().__init__()
            self.text = text
            self.failed = failed

    class Answered(Message):
        """The alignment is there."""

        def __init__(self, found: Alignment) -> None:
            super().__init__()
            self.found = found

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.found: Alignment | None = None
        self.page = drawn.PAGES[0]
        self._entries: list[drawn.Entry] = []
        self._said: AlignmentView.Told | None = None
        self._cancel = threading.Event()
        self._head = RoleLines([((WAITING, "dim"),)])
        self._list = LineList(id="alignment-lines")
        self._about = RoleLines([()], id="alignment-about")

    @property
    def title(self) -> str:
        return f"{printable(self.path.stem)} alignment"

    def compose(self) -> ComposeResult:
        yield self._head
        yield self._list
        yield self._about

    def on_mount(self) -> None:
        self.action_look_again()

    def on_unmount(self) -> None:
        self._cancel.set()

    def focus_content(self) -> None:
        self._list.focus()

    # Asking the analyst

    def action_look_again(self) -> None:
        """Ask once more."""
        self._cancel.set()
        self._cancel = cancel = threading.Event()
        self.on_alignment_view_told(self.Told(WAITING))
        self.run_worker(lambda: self._request(cancel), thread=True, group="alignment", exit_on_error=False)

    def _request(self, cancel: threading.Event) -> None:
        from tuitune.preflight.alignment import Alignment

        def told(text: str, failed: bool) -> None:
            self.post_message(self.Told(text, failed))

        def answered(found: Alignment) -> None:
            self.post_message(self.Answered(found))

        ask_document(self.app, "alignment", {"recipe": str(self.path)}, Alignment, cancel, told, answered)

    def on_alignment_view_told(self, event: Told) -> None:
        self._said = event
        self._show_head()

    def on_alignment_view_answered(self, event: Answered) -> None:
        self._said, self.found = None, event.found
        self._paint()

    # What is shown

    def on_resize(self, event: Resize) -> None:
        self.call_after_refresh(self._paint)

    @property
    def _width(self) -> int:
        return max(20, self.size.width - 2)

    def _paint(self) -> None:
        self._show_head()
        if self.found is None:
            return
        self._entries = drawn.page(self.found, self.page, self._width - 1)  # a cell for the scrollbar
        headings = {at for at, entry in enumerate(self._entries) if entry.heading}
        self._list.show([as_content(entry.line) for entry in self._entries], headings)
        self._show_about()

    def _show_head(self) -> None:
        width = self._width
        said: list[Line] = []
        if self._said is not None:
            said = wrapped(printable(self._said.text), width, "error" if self._said.failed else "dim")[:5]
        if self.found is None:
            self._head.show(said)
            return
        facts = [line for text in drawn.head(self.found) for line in wrapped(text, width, "")]
        notes = [line for note in self.found.notes for line in wrapped(f"not looked at: {printable(note)}", width, "warn")[:3]]
        tabs = [(f" {name} ", "chip" if name == self.page else "dim") for name in drawn.PAGES]
        self._head.show([*facts, *notes, *said, tuple(tabs)])

    def _show_about(self) -> None:
        at = self._list.cursor
        entry = self._entries[at] if 0 <= at < len(self._entries) else None
        words = wrapped(printable(entry.about), self._width, "error" if entry.fault else "")[:ABOUT] if entry else []
        self._about.show([*words, *[()] * (ABOUT - len(words)), ((KEYS, "dim"),)])
        lines = [entry for entry in self._entries if not entry.heading]
        self.status = f"{sum(entry.fault for entry in lines)} faults in {len(lines)}" if any(entry.fault for entry in lines) else ""

    @on(LineList.Moved)
    @on(LineList.Chosen)
    def _moved(self) -> None:
        self._show_about()

    # Keys

    def action_next_page(self) -> None:
        """The page after this one, round the end."""
        self._turn_to(drawn.PAGES[(drawn.PAGES.index(self.page) + 1) % len(drawn.PAGES)])

    def action_tokens(self) -> None:
        """Special tokens."""
        self._turn_to("tokens")

    def action_ends(self) -> None:
        """EOS, pad, BOS."""
        self._turn_to("ends")

    def action_coverage(self) -> None:
        """What is trained."""
        self._turn_to("coverage")

    def _turn_to(self, page: str) -> None:
        self.page = page
        self._list.cursor = 0
        self._paint()

    def action_next_fault(self) -> None:
        """The next line with a fault, on this page."""
        at = drawn.fault_after(self._entries, self._list.cursor)
        if at is None:
            self.app.notify("Nothing is wrong on this page.")
            return
        self._list.cursor = at
        self._show_about()
