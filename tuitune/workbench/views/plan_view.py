"""The GPU memory of a recipe before it trains: a stacked bar of the peak, sliders that recompute while they move, advice, cards.

The recipe and its model's sizes are read in a thread; the plan itself takes a few milliseconds and is made anew at every key. Shows the
recipe as it is on disk, and follows it.
"""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message

from tuitune.text import printable
from tuitune.workbench.commands import plan as commands
from tuitune.workbench.parts.gpu_panel import wrapped
from tuitune.workbench.parts.role_lines import RoleLines, as_content
from tuitune.workbench.views.plan import lines as drawn
from tuitune.workbench.views.plan import rows as listed
from tuitune.workbench.views.plan.asking import ask
from tuitune.workbench.views.plan.held import Held, held_on
from tuitune.workbench.views.plan.plan_list import PlanList
from tuitune.workbench.views.plan.reading import Basis, stamp
from tuitune.workbench.views.plan.state import Outcome, PlanState, back, edge, most, next_card, outcome, rebased, step
from tuitune.workbench.views.plan.writing import fix_of
from tuitune.workbench.views.view import View
from tuitune.workbench.widgets.line_list import LineList

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tuitune.preflight.cards import Card

LOOK_S = 2.0  # seconds between looks at the recipe's file and at who else is on the card
ABOUT = 2  # lines for what is said of the line under the cursor, one more where there is room
BESIDE = 120  # columns from which the cards are drawn beside the sliders
CARDS = 54  # columns that they take there
ROOMY = 30  # rows from which the legend is in columns
KEYS = "←→ change · m most that fits · g card · w write · r back"


class PlanView(View):
    """`path` is the recipe; `state` None while it is read or when there is no plan for it."""

    kind = "plan"
    commands: ClassVar = commands.COMMANDS
    DEFAULT_CSS = f"""
    PlanView {{ layout: vertical; padding: 0 1; }}
    PlanView > #plan-lower {{ height: 1fr; }}
    PlanView > #plan-lower > PlanList {{ width: 1fr; }}
    PlanView > #plan-lower > #plan-cards {{ width: {CARDS}; height: 1fr; }}
    """

    class Read(Message):
        """The recipe was read, or `refused` says why there is no plan; `number`: of the reading."""

        def __init__(self, number: int, basis: Basis | None, refused: str = "") -> None:
            super().__init__()
            self.number = number
            self.basis = basis
            self.refused = refused

    class Told(Message):
        """What is being done for a reading that takes its time."""

        def __init__(self, number: int, text: str) -> None:
            super().__init__()
            self.number = number
            self.text = text

    class Changed(Message):
        """The file was written by somebody."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.state: PlanState | None = None
        self.outcome: Outcome | None = None
        self.refused = ""
        self._card: Card | None = None  # None: this box's
        self._reading = 0
        self._cancel = threading.Event()  # of the reading that is on its way
        self._stamp = stamp(path)
        self._rows: list[listed.Row] = []
        self._head = RoleLines([(("reading the recipe …", "dim"),)])
        self._list = PlanList(id="plan-lines")
        self._cards = RoleLines(id="plan-cards")
        self._about = RoleLines()

    @property
    def title(self) -> str:
        return f"{printable(self.path.stem)} memory"

    def compose(self) -> ComposeResult:
        yield self._head
        with Horizontal(id="plan-lower"):
            yield self._list
            yield self._cards
        yield self._about

    def on_mount(self) -> None:
        self._read()
        self.set_interval(LOOK_S, self._look)

    def on_show(self, event: events.Show) -> None:
        self._look()

    def focus_content(self) -> None:
        self._list.focus()

    # Reading

    def reread(self) -> None:
        if self.state is not None:
            self.state = back(self.state)
        self._read()

    def _read(self) -> None:
        self._cancel.set()
        self._cancel = cancel = threading.Event()
        self._reading += 1
        number, card, self._stamp = self._reading, self._card, stamp(self.path)

        def told(text: str) -> None:
            self.post_message(self.Told(number, text))

        def answered(basis: Basis | None, refused: str) -> None:
            self.post_message(self.Read(number, basis, refused))

        work = partial(ask, self.app, self.path, card, cancel, told, answered)
        self.run_worker(work, thread=True, group="plan", exit_on_error=False)

    def on_plan_view_told(self, event: Told) -> None:
        event.stop()
        if event.number == self._reading:
            self._head.show(wrapped(f"{printable(event.text)} …", max(20, self.size.width - 2), "dim"))

    def on_unmount(self) -> None:
        self._cancel.set()

    def on_plan_view_read(self, event: Read) -> None:
        event.stop()
        if event.number != self._reading:
            return  # a newer reading is on its way
        self.refused = event.refused
        if event.basis is None:
            self.state = self.outcome = None
        elif self.state is None:
            self.state = PlanState(event.basis, held=self._held())
        else:
            self.state = rebased(self.state, event.basis)
        self._paint()

    def _look(self) -> None:
        """Every two seconds while the view is on screen: is the recipe still the one that was read, and who is on the card?"""
        if not self.display:
            return
        if self.state is not None and (held := self._held()) != self.state.held:
            self._to(PlanState(self.state.basis, self.state.moved, held))

        def work() -> None:
            if stamp(self.path) != known:
                self.post_message(self.Changed())

        known = self._stamp
        self.run_worker(work, thread=True, group="plan-disk", exit_on_error=False)

    def on_plan_view_changed(self, event: Changed) -> None:
        event.stop()
        if stamp(self.path) != self._stamp:
            self._read()

    def _held(self) -> tuple[Held, ...]:
        feed = getattr(self.app, "gpu_feed", None)
        return held_on(feed.now) if feed is not None else ()

    # What is shown

    def on_resize(self, event: events.Resize) -> None:
        self.call_after_refresh(self._paint)

    def _to(self, state: PlanState) -> None:
        """Another state is shown, if it is another one."""
        if state != self.state:
            self.state = state
            self._paint()

    def _paint(self) -> None:
        width = max(20, self.size.width - 2)
        if self.state is None:
            self._show_refusal(width)
            return
        self.outcome = out = outcome(self.state)
        roomy = self.size.height >= ROOMY
        beside = width >= BESIDE
        self._head.show(drawn.upper(self.state, out, width, roomy=roomy, wide=beside))
        self._cards.display = beside
        self._cards.show([row.line for row in listed.card_rows(out)[1:]] if beside else [])
        self._show_rows(listed.rows(self.state, out, width - (CARDS if beside else 0) - 1, cards=not beside))
        self._show_about()

    def _show_refusal(self, width: int) -> None:
        if not self.refused:
            return
        sentences = printable(self.refused, newlines=True, limit=2000).splitlines()
        said = [line for sentence in sentences for line in wrapped(sentence, width, "error")]
        self._head.show([(("No memory plan", "title"),), (), *said, (), (("r looks again", "dim"),)])
        self._show_rows([])
        self._cards.display = False
        self._about.show([])
        self.status = "no plan"

    def _show_rows(self, rows: list[listed.Row]) -> None:
        """Other lines; the cursor stays with what it stands on."""
        before = self._row
        self._rows = rows
        self._list.show([as_content(row.line) for row in rows], {at for at, row in enumerate(rows) if not row.kind})
        if before is not None:
            same = next((at for at, row in enumerate(rows) if (row.kind, row.key) == (before.kind, before.key)), None)
            if same is not None:
                self._list.cursor = same

    @property
    def _row(self) -> listed.Row | None:
        at = self._list.cursor
        return self._rows[at] if 0 <= at < len(self._rows) else None

    def _show_about(self) -> None:
        row, width = self._row, max(20, self.size.width - 2)
        room = ABOUT + (self.size.height >= ROOMY)
        words = listed.about(row, width - 1, room)
        self._about.show([*words, ((KEYS, "dim"),)])
        out = self.outcome
        if out is not None:
            verdict = "" if out.fits is None else ", just fits" if out.close else ", fits" if out.fits else ", does not fit"
            self.status = f"{drawn.gib(out.plan.needed)}{verdict}"

    @on(LineList.Moved)
    def _moved(self) -> None:
        self._show_about()

    # Sliders

    def action_more(self) -> None:
        """The next value."""
        self._step(1)

    def action_less(self) -> None:
        """The value before."""
        self._step(-1)

    def _step(self, by: int) -> None:
        name = listed.slider_of(self._row)
        if self.state is not None and name is not None:
            self._to(step(self.state, name, by))

    def action_least(self) -> None:
        """The first value; on other lines the first line."""
        self._edge(last=False)

    def action_most(self) -> None:
        """The last value; on other lines the last line."""
        self._edge(last=True)

    def _edge(self, *, last: bool) -> None:
        name = listed.slider_of(self._row)
        if self.state is not None and name is not None:
            self._to(edge(self.state, name, last))
        else:
            self._list.action_edge(1 if last else -1)

    def action_most_that_fits(self) -> None:
        """The largest value with 5 % to spare."""
        name = listed.slider_of(self._row)
        if self.state is None or name is None:
            self.app.notify("m is for sliders: go to one first.")
        elif self.state.room is None:
            self.app.notify("Choose a card first: g.")
        elif (found := most(self.state, name)) is None:
            self.app.notify(f"No {name} fits; see what else could change under “to make it fit”.")
        else:
            self._to(found)

    def action_back(self) -> None:
        """The recipe as it is, which is read again."""
        self.reread()

    # Cards

    def action_next_card(self) -> None:
        """Plan for the next card."""
        self._choose(1)

    def action_previous_card(self) -> None:
        """Plan for the card before."""
        self._choose(-1)

    def _choose(self, by: int) -> None:
        if self.state is not None:
            self._plan_for(next_card(self.state.basis, self._card or self.state.card, by))  # the last one may still be on its way

    def _plan_for(self, card: Card) -> None:
        self._card = card
        self._read()

    # Writing

    def action_take(self) -> None:
        """Write the advice under the cursor, or plan for the card under it."""
        row, out = self._row, self.outcome
        if row is None or out is None:
            return
        if row.kind == listed.ADVICE:
            self._write(listed.advised_values(out, int(row.key)))
        elif row.kind == listed.CARD:
            self._plan_for(next(one.card for one in out.cards if one.card.name == row.key))

    def action_write(self) -> None:
        """Write what the sliders say."""
        if self.outcome is None:
            return
        if self.outcome.values:
            self._write(self.outcome.values)
        else:
            self.app.notify("The sliders say what the recipe says: there is nothing to write.")

    def _write(self, values: Mapping[str, object]) -> None:
        if self.state is not None:
            basis = self.state.basis
            self.post_message(self.ChangeRequested(self.path, basis.text, fix_of(basis.data, values)))
