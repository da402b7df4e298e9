"""The dataset view's searches: text, broken rows, duplicates, overlap. One goes on at a time; Escape ends it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

from tuitune.text import printable
from tuitune.workbench.parts.gpu_panel import wrapped
from tuitune.workbench.parts.role_lines import RoleLines
from tuitune.workbench.views.dataset.asking import Answered, Asking, Progressed
from tuitune.workbench.views.dataset.find_bar import RowFindBar
from tuitune.workbench.views.dataset.hunt import Hunt, found_words
from tuitune.workbench.views.dataset.row_list import RowList
from tuitune.workbench.views.view import View

if TYPE_CHECKING:
    from tuitune.workbench.app import Workbench

DOING = {"search": "searching", "broken": "looking for broken rows", "duplicates": "comparing rows", "overlap": "comparing files"}


class Scanning(View):
    """What DatasetView needs for its searches; the attributes are set there."""

    asking: Asking
    _list: RowList

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self.hunt = Hunt()
        self.find_bar = RowFindBar()
        self.note = RoleLines([()])
        self._scan: threading.Event | None = None
        self._doing = ""

    @property
    def shown_row(self) -> int:
        """The number, from 0, of the row under the cursor."""
        return max(0, self._list.cursor)

    def send(self, op: str, cancel: threading.Event | None = None, **args: Any) -> None:
        """Ask the reader in a thread."""
        self.run_worker(lambda: self.asking.send(op, cancel, **args), thread=True, group=op, exit_on_error=False)

    # Searching

    def say(self, text: str, role: str = "dim") -> None:
        """A line below everything, three at most."""
        self.note.show(wrapped(printable(text), max(20, self.size.width - 2), role)[:3] or [()])

    def action_find(self) -> None:
        """Ask what to search for."""
        self.find_bar.open()

    def on_row_find_bar_wanted(self) -> None:
        bar = self.find_bar
        bar.display = False
        self.focus_content()
        self.hunt = Hunt("search", {"text": bar.input.value, "regex": bar.regex, "exact": bar.exact})
        self._step(1)

    def on_row_find_bar_left(self) -> None:
        self.focus_content()

    def find(self, text: str) -> None:
        self.hunt = Hunt("search", {"text": text, "regex": False, "exact": False})
        self._step(1)

    def action_next_match(self) -> None:
        """n"""
        self._step(1)

    def action_previous_match(self) -> None:
        """N"""
        self._step(-1)

    def action_next_broken(self) -> None:
        """The next row that cannot be read; n and N go on with it."""
        self.hunt = Hunt("broken")
        self._step(1)

    def _step(self, by: int) -> None:
        hunt = self.hunt
        if (pair := hunt.step(self.shown_row, by)) is not None:
            self.go_to(pair[0] + 1)
            where = f"row {pair[1] + 1:,} of {printable(hunt.other.name)}" if hunt.other else f"row {pair[1] + 1:,}"
            self.say(f"row {pair[0] + 1:,} is the same as {where}", "warn")
        elif hunt.op:
            self._start(hunt.op, start=self.shown_row + (by > 0), backward=by < 0, **hunt.args)
        else:
            self.say("nothing was searched yet: / asks for a text, b goes to the next broken row, d looks for duplicates")

    def _start(self, op: str, **args: Any) -> None:
        self._withdraw()
        self._scan = threading.Event()
        self._doing = DOING[op]
        self.say(f"{self._doing} … (Esc ends it)")
        self.send(op, self._scan, **args)

    def action_duplicates(self) -> None:
        """Compare all rows."""
        self._start("duplicates")

    def action_overlap(self) -> None:
        """Compare with another file."""
        self.run_worker(self._overlap(), group="overlap", exclusive=True, exit_on_error=False)

    async def _overlap(self) -> None:
        from tuitune.workbench.views.dataset import flows

        other = await flows.choose_other(self, cast("Workbench", self.app))
        if other is not None:
            self._start("overlap", other=str(other))

    def action_end_scan(self) -> None:
        """Escape."""
        if self._scan is not None:
            self._withdraw()
            self.say("ended")
        else:
            self.say("")

    def _withdraw(self) -> None:
        if self._scan is not None:
            self._scan.set()
            self._scan = None

    def on_progressed(self, event: Progressed) -> None:
        if self._scan is event.cancel and event.cancel is not None:
            self.say(f"{self._doing} … {event.text} (Esc ends it)")

    def scanned(self, event: Answered) -> None:
        """A search has come to its end."""
        if event.cancel is not self._scan:
            return
        self._scan = None
        answer, op = event.answer, event.op
        if "pairs" in answer:
            from pathlib import Path

            other = Path(event.args["other"]) if op == "overlap" else None
            self.hunt = Hunt(pairs=tuple((row, same) for row, same in answer["pairs"]), other=other)
            self.say(found_words(op, answer, printable(other.name) if other else ""), "warn" if answer["count"] else "good")
        elif answer["row"] is None:
            self.say("not found" if op == "search" else "every row can be read", "warn" if op == "search" else "good")
        else:
            self.go_to(answer["row"] + 1)
            self.say(f"found in row {answer['row'] + 1:,}; n: next, N: the one before")
