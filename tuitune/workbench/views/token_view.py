"""What is trained: the rows of a recipe's data as its real trainer prepares them, token by token, with the loss mask.

The analyst prepares them (a second or two once it is warm); the view shows the recipe as it is on disk. One list of rows, the tokens of
the row under the cursor, and the token under the other cursor in words.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.events import Resize

from tuitune.analyst.survey_document import FAULTS, Survey
from tuitune.text import printable
from tuitune.workbench.analysis import analyst_of
from tuitune.workbench.clipboard import copy
from tuitune.workbench.commands import tokens as commands
from tuitune.workbench.parts.gpu_panel import wrapped
from tuitune.workbench.parts.role_lines import Line, RoleLines, as_content
from tuitune.workbench.views.tokens import figures
from tuitune.workbench.views.tokens.asking import SHOWN, Asking, Counting, Inspected, Lost, Surveyed, Told
from tuitune.workbench.views.tokens.find_bar import TokenFindBar
from tuitune.workbench.views.tokens.flow import describe, flow, legend, row_line
from tuitune.workbench.views.tokens.scroll import EMPTY, TokenScroll
from tuitune.workbench.views.view import View
from tuitune.workbench.widgets.line_list import LineList

if TYPE_CHECKING:
    from tuitune.analyst.document import Inspection, Row

NARROW = 90  # cells; below it the rows stand above the tokens
FLAT = 20  # lines; below it few rows are shown
FOUND = "found"  # the filter that is no fault
WAITING = "waiting for the analyst …"
TITLES: Line = (("    row tokens inloss", "dim"),)


class TokenView(View):
    """`path` is the recipe."""

    kind = "tokens"
    commands: ClassVar = commands.COMMANDS
    DEFAULT_CSS = """
    TokenView { layout: vertical; padding: 0 1; }
    TokenView > RoleLines { height: auto; }
    TokenView #token-rows { width: 40; height: 1fr; margin-right: 1; }
    TokenView #token-panes { height: 1fr; margin-top: 1; }
    TokenView.-narrow #token-panes { layout: vertical; }
    TokenView.-narrow #token-rows { width: 1fr; height: 7; margin-right: 0; }
    TokenView.-narrow.-flat #token-rows { height: 4; }
    TokenView.-flat #token-panes { margin-top: 0; }
    TokenView #token-flow { height: 1fr; }
    TokenView #token-page { height: 1fr; margin-top: 1; }
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.inspection: Inspection | None = None
        self.sequence = 0  # which of a row's sequences is shown (chosen and rejected, or the packs it is in)
        self.ids = False
        self.survey: Survey | None = None
        self.filter = ""  # the fault whose rows are shown, or FOUND, and `found` says what; "": the sample
        self.found = ""
        self.role = "all"  # what the histogram is of
        self._cancel = threading.Event()
        self._counting: Line = ()
        self._said = Told(WAITING)
        self._head = RoleLines([((WAITING, "dim"),)])
        self._titles = RoleLines([TITLES])
        self._rows = LineList()
        self._flow = TokenScroll(id="token-flow")
        self._which = RoleLines([()])
        self._foot = RoleLines([(), (), ()])
        self._find = TokenFindBar()
        self._page = RoleLines(id="token-page")
        self._page.display = False
        self._page.can_focus = True  # while it is there the panes cannot have the keyboard

    @property
    def title(self) -> str:
        return f"{printable(self.path.stem)} rows"

    def compose(self) -> ComposeResult:
        yield self._head
        yield self._page
        with Horizontal(id="token-panes") as self._panes:
            with Vertical(id="token-rows"):
                yield self._titles
                yield self._rows
            with Vertical():
                yield self._which
                yield self._flow
        yield self._foot
        yield self._find

    def on_mount(self) -> None:
        self.action_inspect_again()

    def on_unmount(self) -> None:
        self._cancel.set()

    def focus_content(self) -> None:
        (self._page if self._page.display else self._rows).focus()

    def action_inspect_again(self) -> None:
        """Prepare the rows once more: the recipe or the data have changed."""
        self.survey = None
        self._counting = ()
        self._load("")

    def show_row(self, row: int) -> None:
        shown = [each.row for each in self.inspection.rows] if self.inspection else []
        if row not in shown:
            self._load(FOUND, row=row)
        elif self._rows.cursor != shown.index(row):
            self._rows.cursor = shown.index(row)
            self.on_line_list_moved()

    def _load(self, fault: str, what: str = "", row: int | None = None) -> None:
        """Ask for the rows with a fault, for those that `what` finds, for one row, or for the sample; then for figures over all rows."""
        self._cancel.set()
        self._cancel = threading.Event()
        self._said = Told(WAITING)
        self.inspection = None
        self.filter = fault
        self._say()
        rows = self.survey.faults[fault][:SHOWN] if fault in FAULTS and self.survey else None
        found = "" if row is None else f"row {row} alone"
        rows = rows if row is None else [row]
        load = Asking(analyst_of(self.app), self.path, self.post_message, self._cancel, rows, what, self.survey is None, found)
        self.run_worker(load.run, thread=True, group="inspect", exit_on_error=False)

    @on(Told)
    def _told(self, event: Told) -> None:
        self._said = event
        self._say()

    @on(Lost)
    def _lost(self, event: Lost) -> None:
        self.post_message(self.OutputLine(event.text))

    def _say(self) -> None:
        said = self._said
        self._head.show(wrapped(printable(said.text), max(20, self.size.width - 2), "error" if said.failed else "dim")[:6])

    @on(Inspected)
    def _inspected(self, event: Inspected) -> None:
        self.inspection, self.found = event.inspection, event.found
        self._flow.cursor = 0
        self._paint()

    @on(Counting)
    def _counted(self, event: Counting) -> None:
        self._counting = ((f"all rows: {printable(event.text)}", "error" if event.failed else "dim"),)
        self._show_head()

    @on(Surveyed)
    def _surveyed(self, event: Surveyed) -> None:
        self.survey = event.survey
        self._counting = ()
        self._show_head()
        self._show_page()

    def on_resize(self, event: Resize) -> None:
        self.set_class(event.size.width < NARROW, "-narrow")
        self.set_class(event.size.height < FLAT, "-flat")
        self.call_after_refresh(self._paint)

    def on_line_list_moved(self) -> None:
        self.sequence = 0
        self._show_row()

    def on_line_list_chosen(self) -> None:
        self._flow.focus()

    def on_token_scroll_resized(self) -> None:
        self._show_row(self._flow.cursor)

    def on_token_scroll_moved(self) -> None:
        self._show_token()

    @property
    def row(self) -> Row | None:
        """The row under the cursor."""
        if self.inspection is None or not 0 <= self._rows.cursor < len(self.inspection.rows):
            return None
        return self.inspection.rows[self._rows.cursor]

    def _paint(self) -> None:
        if self.inspection is None:
            self._say()
            return
        self._show_head()
        self._show_page()
        width = max(30, self._rows.size.width)
        self._rows.show([as_content(row_line(self.inspection, row, width)) for row in self.inspection.rows])
        self._show_row(self._flow.cursor)

    def _show_head(self) -> None:
        """One line on the rows that are shown, one on the whole set while it says more than the first."""
        if self.inspection is None:
            return
        whole = figures.short(self.survey) if self.survey else self._counting
        shown = self._shown(self.inspection)
        everything = self.survey is not None and not self.filter and not self.inspection.sampled
        room = max(20, self.size.width - 2)
        left_out = [line for told in self.inspection.left_out for line in wrapped(f"left out: {printable(told)}", room, "warn")]
        self._head.show([line for line in (whole, () if everything else shown, *left_out[:4]) if line])

    def _shown(self, inspection: Inspection) -> Line:
        """Which rows these are."""
        if self.filter == FOUND:
            return ((f"shown: {self.found}", "warn"), ("  f: the sample again", "dim"))
        return _filtered(inspection, self.survey, self.filter) if self.filter and self.survey else _summary(inspection)

    def action_find(self) -> None:
        """Ask for a text, a pattern or a token."""
        self._find.open()

    def on_token_find_bar_wanted(self, event: TokenFindBar.Wanted) -> None:
        if self._page.display:
            self.action_whole_set()
        self._rows.cursor = 0
        self._load(FOUND, event.what)
        self.focus_content()

    def on_token_find_bar_left(self) -> None:
        self.focus_content()

    def _show_page(self) -> None:
        if self._page.display and self.survey is not None:
            self._page.show(figures.page(self.survey, self.role, self.size.width - 2, self._page.size.height))

    def action_whole_set(self) -> None:
        """The figures over all rows, and back to the tokens."""
        if self.survey is None and not self._page.display:
            self.app.notify("The figures over all rows are still being made." if self._counting else "There are no figures over all rows.")
            return
        self._page.display = not self._page.display
        self._panes.display = self._foot.display = not self._page.display
        self.focus_content()
        self.call_after_refresh(self._show_page)

    def action_next_role(self) -> None:
        """The histogram of another role."""
        if self.survey is not None and self._page.display:
            names = figures.roles(self.survey)
            self.role = names[(names.index(self.role) + 1) % len(names)]
            self._show_page()

    def action_filter_rows(self) -> None:
        """The rows with the next kind of fault, after the last one the sample."""
        if self.filter == FOUND:
            self._load("")
            return
        if self.survey is None:
            self.app.notify("Which rows have faults is known when all rows have been looked at.")
            return
        kinds = ["", *figures.faulty(self.survey)]
        if len(kinds) == 1:
            self.app.notify("No row is cut, dropped, there twice or without anything in the loss.")
            return
        if self._page.display:
            self.action_whole_set()
        self._rows.cursor = 0
        self._load(kinds[(kinds.index(self.filter) + 1) % len(kinds)])

    def _show_row(self, token: int = 0) -> None:
        row = self.row
        if self.inspection is None or row is None:
            return
        self.status = f"row {row.row}"
        self.breadcrumb = f"{printable(Path(row.file).name)}:{row.line}"
        if not row.sequences:
            self._flow.show(EMPTY)
            self._which.show([((f"row {row.row}: {row.status}: nothing of it is trained on", "warn"),)])
            self._foot.show([(), (), ()])
            return
        self.sequence %= len(row.sequences)
        tokens = row.sequences[self.sequence]
        more = f" ({self.sequence + 1} of {len(row.sequences)}, s: next)" if len(row.sequences) > 1 else ""
        name = tokens.name if tokens.pack is None else f"{tokens.name} in pack {tokens.pack}"
        self._which.show([((f"{name}{more}", "title"), (f"  {row.status}", "dim" if row.status == "kept" else "warn"))])
        self._flow.show(flow(self.inspection, tokens, max(10, self._flow.size.width - 1), ids=self.ids), token)
        self._show_token()

    def _show_token(self) -> None:
        row = self.row
        if self.inspection is not None and row is not None and row.sequences:
            tokens = row.sequences[self.sequence]
            self._foot.show([*describe(self.inspection, tokens, self._flow.cursor), legend(self.inspection, row.sequences)])

    def action_token_ids(self) -> None:
        """Numbers instead of texts, and back."""
        self.ids = not self.ids
        self._show_row(self._flow.cursor)

    def action_copy(self) -> None:
        """The sequence on screen: its text, or its numbers while they are shown."""
        row = self.row
        if self.inspection is None or row is None or not row.sequences:
            return
        ids = row.sequences[self.sequence].ids
        text = json.dumps(ids) if self.ids else "".join(self.inspection.texts[id] for id in ids)
        copy(self.app, text, f"Row {row.row}, {len(ids):,} {'token ids' if self.ids else 'tokens as text'},")

    def action_next_sequence(self) -> None:
        """The other side of a preference pair, or the next pack the row is in."""
        self.sequence += 1
        self._show_row()

    def action_next_fault(self) -> None:
        """The next row with something wrong, round the end."""
        from tuitune.analyst.document import faults

        if self.inspection is None:
            return
        rows = self.inspection.rows
        order = [*range(self._rows.cursor + 1, len(rows)), *range(self._rows.cursor + 1)]
        found = next((at for at in order if faults(self.inspection, rows[at])), None)
        if found is None:
            self.app.notify("Nothing is wrong with the rows that were looked at.")
        else:
            self._rows.cursor = found
            self.sequence = 0
            self._show_row()

    def action_switch_pane(self) -> None:
        """From the rows to the tokens and back."""
        (self._rows if self._flow.has_focus else self._flow).focus()


def _filtered(inspection: Inspection, survey: Survey, fault: str) -> Line:
    shown, there = len(inspection.rows), survey.counts[fault]
    words = f"{shown:,} of {there:,} rows that are" if shown < there else f"{there:,} rows that are" if there > 1 else "the row that is"
    return ((f"shown: {words} {FAULTS[fault]}", "warn"), ("  f: the next kind", "dim"))


def _summary(inspection: Inspection) -> Line:
    from tuitune.analyst.document import totals

    count = totals(inspection)
    share = 100 * count["trained_tokens"] / count["tokens"] if count["tokens"] else 0.0
    sample = f"a sample of {count['shown']:,} of {count['rows']:,} rows" if inspection.sampled else f"{count['rows']:,} rows"
    lost = [f"{count[name]:,} {name}" for name in ("truncated", "dropped") if count[name]]
    words = f"{sample} · {count['tokens']:,} tokens · {share:.0f} % in the loss"
    return ((words, ""), (" · " + " · ".join(lost) if lost else "", "warn"))
