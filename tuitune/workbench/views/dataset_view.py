"""A data file of any size: its rows as a table, the row under the cursor in full, and that row as its column mapping makes it.

The reader (tuitune.dataset.reader) holds the file; the view asks it for the rows around the cursor and draws what is there. Nothing here
waits: rows that have not come yet are drawn as "…".
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.events import Resize

from tuitune.text import printable
from tuitune.workbench import figures
from tuitune.workbench.analysis import reader_of
from tuitune.workbench.commands import dataset as commands
from tuitune.workbench.parts.broken_text import broken_up
from tuitune.workbench.parts.gpu_panel import wrapped
from tuitune.workbench.parts.role_lines import RoleLines
from tuitune.workbench.views.dataset import detail, table
from tuitune.workbench.views.dataset.asking import Answered, Asking, Refused, Restarted
from tuitune.workbench.views.dataset.hunt import Hunt
from tuitune.workbench.views.dataset.news import Mapped, Touched, Whole
from tuitune.workbench.views.dataset.pane import LinePane
from tuitune.workbench.views.dataset.row_list import RowList
from tuitune.workbench.views.dataset.scanning import Scanning

if TYPE_CHECKING:
    from tuitune.workbench.app import Workbench

WIDE = 120  # columns of the terminal; from there on the row and what is made of it stand side by side
FLAT = 30  # lines of the terminal
CELL = 160  # characters of a cell
DETAIL_AFTER_S = 0.04  # a held arrow key must not ask for every row it passes
LOOK_AT_DISK_S = 2.0
OPENING = "opening …"


class DatasetView(Scanning):
    """`path` is the data file."""

    kind = "data"
    commands: ClassVar = commands.COMMANDS
    DEFAULT_CSS = """
    DatasetView { layout: vertical; padding: 0 1; }
    DatasetView > RoleLines, DatasetView RoleLines { height: auto; }
    DatasetView > RowList { height: 1fr; }
    DatasetView > #data-panes { height: 1fr; margin-top: 1; layout: horizontal; }
    DatasetView #data-raw { margin-right: 1; }
    DatasetView.-narrow > #data-panes { layout: vertical; height: 2fr; margin-top: 0; }
    DatasetView.-narrow #data-raw { margin-right: 0; }
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.names: list[str] = []
        self.mapping: dict[str, str] = {}  # what the row on screen was made with
        self.complete = False
        self._columns: dict[str, str] | None = None  # what a recipe says; None: by the columns' names
        self._mapped_by = ""
        self._facts = ""
        self._said = OPENING
        self._failed = False
        self._lines = table.Lines()
        self._first = 0  # columns left out at the left
        self._fetching: threading.Event | None = None
        self._detail: threading.Event | None = None
        self._wanted = 0  # the first row asked for
        self._to_end = False
        self._sought = 0  # the row, from 1, to go to when it is known
        self._stamp: list[int] = []
        self._head = RoleLines([((OPENING, "dim"),)])
        self._titles = RoleLines([()])
        self._list = RowList(id="data-rows")
        self._raw, self._made = LinePane(), LinePane()
        self._raw_title, self._made_title = RoleLines([()]), RoleLines([()])

    def compose(self) -> ComposeResult:
        yield self._head
        yield self._titles
        yield self._list
        with Container(id="data-panes"):
            with Vertical(id="data-raw"):
                yield self._raw_title
                yield self._raw
            with Vertical():
                yield self._made_title
                yield self._made
        yield self.note
        yield self.find_bar

    def on_mount(self) -> None:
        self.asking = Asking(reader_of(self.app), self.path, self.post_message)
        self.watch(self._list, "scroll_y", self._want_rows, init=False)
        self._timer = self.set_timer(DETAIL_AFTER_S, self._settled)
        self.set_interval(LOOK_AT_DISK_S, self._look_at_disk)
        self._open()

    def on_unmount(self) -> None:
        self.asking.ended.set()
        for event in (self._fetching, self._detail, self._scan):
            if event is not None:
                event.set()

    def focus_content(self) -> None:
        self._list.focus()

    @property
    def count(self) -> int:
        """The rows that are known."""
        return self._lines.total

    def _say_head(self, text: str, *, failed: bool = False) -> None:
        """The line above the table: what the file is, or what is wrong with it."""
        self._said, self._failed = text, failed
        if text:
            self._head.show(wrapped(printable(text), max(20, self.size.width - 2), "error" if failed else "dim")[:6])
        else:
            rows = table.counted(self.count, "row")
            self._head.show([((rows if self.complete else f"{rows} so far …", ""), (f" · {self._facts}", "dim"))])

    # Opening

    def _open(self) -> None:
        self.asking.era += 1
        self._fetching = None
        self._stamp = []
        self._say_head(OPENING)
        self.send("open")
        self.run_worker(self._find_recipes, thread=True, group="recipes", exit_on_error=False)

    def _find_recipes(self) -> None:
        from tuitune.workbench.views.dataset.flows import recipes_of
        from tuitune.workbench.views.dataset.recipes import namings

        found = namings(self.path, recipes_of(cast("Workbench", self.app)))
        self.post_message(Mapped(found[0].columns if found else None, found[0].words if found else ""))

    def on_mapped(self, event: Mapped) -> None:
        self._columns, self._mapped_by = event.columns, event.words
        self._ask_row()

    def action_read_again(self) -> None:
        """Open the file anew; the cursor stays."""
        self._lines = table.Lines(self._lines.total, {}, self._lines.columns, self._lines.digits)
        self._open()

    def _look_at_disk(self) -> None:
        if self._stamp:
            known = self._stamp
            self.run_worker(lambda: self.asking.look_at_disk(known), thread=True, group="disk", exclusive=True, exit_on_error=False)

    def on_touched(self, event: Touched) -> None:
        if event.gone:
            self._stamp = []
            self._say_head(f"{printable(self.path.name)} is gone from the disk; r looks for it again", failed=True)
        else:
            self._changed_on_disk()

    def _changed_on_disk(self) -> None:
        self.hunt = Hunt()
        self.action_read_again()
        self.say("the file was changed on disk: it has been read again", "warn")

    # What the reader answers

    def on_answered(self, event: Answered) -> None:
        answer = event.answer
        if event.era != self.asking.era:
            return
        if "stamp" in answer and event.op != "open" and self._stamp and answer["stamp"] != self._stamp:
            self._changed_on_disk()
            return
        if "known" in answer:
            self._grown(answer)
        {"open": self._opened, "count": self._counted, "rows": self._fetched}.get(event.op, self.scanned)(event)

    def on_refused(self, event: Refused) -> None:
        if event.op == "rows":
            self._fetching = None
        if event.era != self.asking.era or not event.text:
            if event.op == "rows":
                self._want_rows()
        elif event.op in ("open", "rows", "count"):
            self._lines = table.Lines() if event.op == "open" else self._lines
            self._say_head(event.text, failed=True)
            self._list.show(self._lines)
        elif event.cancel is self._scan:
            self._scan = None
            self.say(event.text, "error")

    def on_restarted(self, event: Restarted) -> None:
        self.app.notify(event.text, severity="warning")
        if not self.complete:
            self.send("count", known=-1)

    def _opened(self, event: Answered) -> None:
        answer = event.answer
        self._stamp = answer["stamp"]
        self.names = answer["columns"]
        size = figures.size(answer["size"])
        self._facts = f"{answer['format']} · {size} · {table.counted(len(self.names), 'column')}" + (
            f" · {answer['slow']}" if answer["slow"] else ""
        )
        self._say_head("")
        self._want_rows()
        self._ask_row()
        if not self.complete:
            self.send("count", known=answer["known"])

    def _grown(self, answer: dict[str, Any]) -> None:
        """So many rows are known now."""
        news = (answer["complete"], answer["known"]) != (self.complete, self.count)
        self.complete = answer["complete"]
        known = answer["known"] if self.complete else max(answer["known"], self.count)  # a reader that was restarted counts anew
        digits = max(3, len(str(known)))
        before = self._list.cursor
        if known != self._lines.total or digits != self._lines.digits:
            self._lines = table.Lines(known, self._lines.rows, self._lines.columns, digits)
            self._list.show(self._lines)
            self._show_titles()
            if self._list.cursor != before >= 0:
                self._moved()
        if self._to_end and self.complete:
            self._to_end = False
            self._list.cursor = known - 1
            self._moved()
            self.say("")
        if self._sought and (self._sought <= known or self.complete):
            self.go_to(self._sought)
        if news:
            self._show_place()
            self._say_head(self._said, failed=self._failed)
        if answer["problem"]:
            self.say(answer["problem"], "error")

    def _counted(self, event: Answered) -> None:
        if not self.complete:
            self.send("count", known=event.answer["known"])
        self._want_rows()

    def _fetched(self, event: Answered) -> None:
        self._fetching = None
        told = [{**row, "error": self.asking.here(row["error"])} if "error" in row else row for row in event.answer["rows"]]
        rows = table.with_rows(self._lines.rows, told, self._list.scroll_offset.y)
        columns = self._lines.columns
        if not columns.names:
            columns = self._arranged(rows)
        self._lines = table.Lines(max(self._lines.total, max(rows, default=-1) + 1), rows, columns, self._lines.digits)
        self._list.show(self._lines)
        self._show_titles()
        if event.answer["rows"]:
            self._want_rows()

    def _want_rows(self) -> None:
        """Ask for rows that are on screen or next to it, one request at a time; one that nobody looks at any more is withdrawn."""
        if not self.names:
            return
        height = max(1, self._list.size.height)
        gap = table.missing(self._lines.rows, self._list.scroll_offset.y, height, max(self.count, 1))
        if gap is None:
            return
        if self._fetching is not None:
            if abs(self._wanted - gap[0]) > 2 * height:
                self._fetching.set()
            return
        self._wanted = gap[0]
        self._fetching = threading.Event()
        self.send("rows", self._fetching, start=gap[0], count=gap[1], cell=CELL)

    # The table

    def on_resize(self, event: Resize) -> None:
        self.set_class(self.app.size.width < WIDE, "-narrow")
        self.call_after_refresh(self._arrange_again)

    def _arranged(self, rows: dict[int, table.Brief]) -> table.Columns:
        width = max(20, self._list.scrollable_content_region.width - self._lines.digits - 2)
        return table.arrange(self.names, list(rows.values()), width, self._first)

    def _arrange_again(self) -> None:
        if self._lines.rows:
            self._lines = table.Lines(self.count, self._lines.rows, self._arranged(dict(self._lines.rows)), self._lines.digits)
            self._list.show(self._lines)
            self._show_titles()
        self._say_head(self._said, failed=self._failed)
        self._want_rows()

    def _show_titles(self) -> None:
        self._titles.show([((table.heading(self._lines.columns, self._lines.digits), "dim"),)])

    def action_columns_left(self) -> None:
        """The column before."""
        self._shift(-1)

    def action_columns_right(self) -> None:
        """The columns further right."""
        self._shift(1)

    def _shift(self, by: int) -> None:
        self._first = max(0, min(self._first + by, len(self.names) - 1))
        self._arrange_again()

    def on_line_list_moved(self) -> None:
        self._to_end = not self.complete and self._list.cursor == self.count - 1
        if self._to_end:
            self.say("the rows are still being counted: goes to the end as soon as it is known")
        self._moved()

    def on_line_list_chosen(self) -> None:
        self._raw.focus()

    def _moved(self) -> None:
        self._want_rows()
        self._timer.stop()
        self._timer = self.set_timer(DETAIL_AFTER_S, self._settled)

    def _settled(self) -> None:
        """The cursor rests. Distant lines that change in one frame make Textual draw all between them, so the status waits for this."""
        self._show_place()
        self._ask_row()

    def _show_place(self) -> None:
        self.status = f"row {self.shown_row + 1:,} of {self.count:,}{'' if self.complete else ' so far'}" if self.count else ""

    def go_to(self, line: int, column: int = 1) -> None:
        """Rows are counted from 1 here."""
        self._sought = 0 if line <= self.count or self.complete else line
        self._list.cursor = line - 1
        self.on_line_list_moved()
        if line > self.count and self.complete:
            self.say(f"there are {self.count:,} rows", "warn")

    # The row under the cursor

    def on_line_pane_rewidened(self) -> None:
        """The class -narrow lays the panes out in a later step than the view."""
        self._ask_row()

    def _ask_row(self) -> None:
        if not self.names:
            return
        if self._detail is not None:
            self._detail.set()
        self._detail = cancel = threading.Event()
        width = max(20, self._raw.size.width - 1)
        row, columns, era = self.shown_row, self._columns, self.asking.era
        self.run_worker(lambda: self._come_whole(row, columns, width, era, cancel), thread=True, group="row", exit_on_error=False)

    def _come_whole(self, row: int, columns: dict[str, str] | None, width: int, era: int, cancel: threading.Event) -> None:
        from tuitune.analyst.client import Cancelled
        from tuitune.errors import UserError

        try:
            answer = self.asking.ask("row", cancel, row=row, columns=columns, room=detail.ROOM)
        except Cancelled:
            return
        except UserError as error:
            answer = {"row": row, "line": row + 1, "error": str(error)}
        for reason in {"error", "misfit"} & answer.keys():
            answer[reason] = self.asking.here(answer[reason])
        if not cancel.is_set():
            self.post_message(Whole(answer, detail.raw_lines(answer, width), detail.made_lines(answer, width), era))

    def on_whole(self, event: Whole) -> None:
        answer = event.answer
        if event.era != self.asking.era or answer["row"] != self.shown_row:
            return
        place = f"{printable(self.path.name)}:{answer['line']:,}"
        self.breadcrumb = f"line {answer['line']:,}"
        self._raw_title.show([((f"row {answer['row'] + 1:,}", "title"), (f"  {place}", "dim"))])
        self._raw.show(event.raw)
        self.mapping = answer.get("mapping", {})
        by = self._mapped_by if self._columns else "by the columns' names"
        words = f"{detail.mapping_words(self.mapping)} ({by})" if self.mapping else "m: say what each column is for"
        fits = len(words) + 18 <= self._made.size.width
        self._made_title.show([(("as it is trained", "title"), (f"  {words}" if fits else "", "dim"))])
        self._made.show(event.made if fits else [*broken_up(words, max(20, self._made.size.width - 1), "dim"), *event.made])

    def use_mapping(self, columns: dict[str, str], words: str) -> None:
        """Show rows by this mapping from now on; `words` say where it is written."""
        self._columns, self._mapped_by = columns, words
        self._ask_row()

    def action_switch_pane(self) -> None:
        """The table, the row, the mapped row."""
        panes = [self._list, self._raw, self._made]
        at = next((index for index, pane in enumerate(panes) if pane.has_focus), -1)
        panes[(at + 1) % len(panes)].focus()

    def action_map_columns(self) -> None:
        """What each column is for."""
        from tuitune.workbench.views.dataset import flows

        if self.names:
            self.run_worker(flows.map_columns(self, cast("Workbench", self.app)), group="mapping", exclusive=True, exit_on_error=False)
