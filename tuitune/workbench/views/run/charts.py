"""The charts of a run on one page: which are on screen goes by the size, the keys go to the active one."""

from textual.app import ComposeResult
from textual.containers import Grid
from textual.events import Click, Resize

from tuitune.workbench.parts.role_lines import RoleLines
from tuitune.workbench.run_state import RunState
from tuitune.workbench.views.run.arrangement import CHARTS, LOSS, MEMORY, TABLE, TABLE_ROWS, Arrangement, arrange
from tuitune.workbench.views.run.axis import SIGNS, Mark
from tuitune.workbench.views.run.figures_of import figure_of, other_metrics
from tuitune.workbench.views.run.memory import memory_lines, run_gpus
from tuitune.workbench.views.run.method_figures import own_metrics
from tuitune.workbench.views.run.pages import Page
from tuitune.workbench.views.run.plot import SMOOTHING, Figure, Look, Memo, Window, plot


class ChartBox(RoleLines):
    """One chart. `slot` is its place in the arrangement, `metric` what it shows there."""

    DEFAULT_CSS = "ChartBox { height: 1fr; }"

    def __init__(self, slot: str, window: Window) -> None:
        super().__init__(id=f"chart-{slot}")
        self.slot = self.metric = slot
        self.window = window
        self.figure = Figure(slot, ())
        self.active = self.log_values = False
        self.words = True  # of the marks under the cursor; in one chart of several
        self.smoothing = 0
        self.chosen = False  # whether somebody has said what to show here
        self._memo = Memo()

    def draw(self) -> None:
        """Make the lines of the figure as it is and show those that differ."""
        width, height = self.size
        if width < 12 or height < 3:
            self.show([()] * height)
            return
        look = Look(self.active, self.log_values, SMOOTHING[self.smoothing][0], self.words)
        self.show(plot(self.figure, self.window, width, height, look, self._memo))

    def smooth(self) -> str:
        """The next level of smoothing; its name."""
        self.smoothing = (self.smoothing + 1) % len(SMOOTHING)
        self.draw()
        return SMOOTHING[self.smoothing][1] or "none"

    def set_metric(self, metric: str) -> None:
        """Show another metric in this place."""
        if metric != self.metric:
            self.metric = metric
            self._memo = Memo()

    def on_resize(self, event: Resize) -> None:
        self.draw()


class MemoryTable(RoleLines):
    """The names and sizes of the parts of the memory in use."""

    DEFAULT_CSS = "MemoryTable { height: auto; padding: 0 0 0 1; }"

    def __init__(self) -> None:
        super().__init__(id=f"chart-{TABLE}")
        self.state, self.gpu = RunState(), 0

    def draw(self) -> None:
        """Make the lines of the state as it is; the run's `gpu`-th card comes first."""
        self.show(memory_lines(self.state, max(20, self.size.width), self.gpu))

    def on_resize(self, event: Resize) -> None:
        self.draw()


class ChartPage(Page):
    """Charts over steps share one window on the x axis; memory, which goes over time, has its own."""

    DEFAULT_CSS = """
    ChartPage { padding: 0; }
    ChartPage > Grid { height: 1fr; grid-gutter: 0 1; padding: 0 1; }
    """

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._grid = Grid()
        steps = Window()
        self.boxes = {slot: ChartBox(slot, Window() if slot == MEMORY else steps) for slot in CHARTS}
        self.table = MemoryTable()
        self.slot, self.maximised, self.gpu = LOSS, False, 0
        self._arrangement: Arrangement | None = None
        self._state = RunState()
        self._marks: tuple[int, list[Mark]] = (-1, [])
        self._turn = 0

    def compose(self) -> ComposeResult:
        with self._grid:
            yield from self.boxes.values()
            yield self.table

    @property
    def active(self) -> ChartBox:
        """The chart that the keys go to."""
        return self.boxes[self.slot]

    def show_state(self, state: RunState) -> None:
        """New figures: the active chart is drawn at each call, of the others one after the other, which halves the work and the bytes."""
        self._state = state
        if self._arrange() or self._turn == 0:
            self._turn = 1
            self._draw()
            return
        others = [slot for slot, _ in self._cells if slot != self.slot]
        self._turn += 1
        self._draw_slot(self.slot)
        if others:
            self._draw_slot(others[self._turn % len(others)])

    def on_resize(self, event: Resize) -> None:
        self._arrange()
        self._draw()

    def on_click(self, event: Click) -> None:
        if isinstance(event.widget, ChartBox):
            self._activate(event.widget.slot)

    @property
    def _cells(self) -> tuple[tuple[str, int], ...]:
        return self._arrangement.cells if self._arrangement else ()

    def _arrange(self) -> bool:
        """Put on screen what the size allows; whether that changed."""
        width, height = self.size
        wanted = arrange(width - 2, height, self.slot, maximised=self.maximised)
        # beside the memory chart alone there is room for the proof's phases as well
        self.table.styles.max_height = max(TABLE_ROWS, height * 3 // 5) if wanted.columns == 1 else TABLE_ROWS
        if wanted == self._arrangement:
            return False
        self._arrangement = wanted
        spans = dict(wanted.cells)
        if self.slot not in spans:
            self.slot = wanted.charts[0]
        self._grid.styles.grid_size_columns = wanted.columns
        self._grid.styles.grid_rows = " ".join(wanted.rows)
        for slot, widget in (*self.boxes.items(), (TABLE, self.table)):
            widget.display = slot in spans
            widget.styles.column_span = spans.get(slot, 1)
        self.call_after_refresh(self._draw)  # the new sizes are known then
        return True

    def _draw(self) -> None:
        for slot, _ in self._cells:
            self._draw_slot(slot)

    def _draw_slot(self, slot: str) -> None:
        if slot == TABLE:
            self.table.state, self.table.gpu = self._state, self.gpu
            self.table.draw()
            return
        box = self.boxes[slot]
        if self._state.events_seen != self._marks[0]:
            marks = [Mark(float(event.step), event.kind, event.words) for event in self._state.marks() if event.step is not None]
            self._marks = (self._state.events_seen, marks)
        if not box.chosen:
            box.set_metric(own_metrics(self._state.metrics).get(slot, slot))
        box.figure = figure_of(self._state, box.metric, self._marks[1], self.gpu)
        box.active = slot == self.slot and len(self._cells) > 1 and not self.maximised
        box.words = slot == self.slot
        box.draw()

    def _activate(self, slot: str) -> None:
        self.slot = slot
        self._arrange()
        self._draw()

    def step(self, by: int) -> None:
        """The next chart: of those on screen, or of all when there is one at a time."""
        shown = self._arrangement.charts if self._arrangement else CHARTS
        slots = shown if len(shown) > 1 else CHARTS
        self._activate(slots[(slots.index(self.slot) + by) % len(slots)])

    def zoom(self, factor: float) -> None:
        """Show `factor` times as much of the x axis."""
        self.active.window.zoom(self.active.figure, factor)
        self._draw()

    def move(self, by: int) -> None:
        """Move the value cursor by a cell."""
        self.active.window.move(self.active.figure, by, self.active.size.width - 8)
        self._draw()

    def to_mark(self, by: int) -> bool:
        """Move the value cursor to the next mark on the axis, or the one before; False when there is none that way."""
        window, figure = self.active.window, self.active.figure
        places = sorted({mark.x for mark in figure.marks if mark.kind in SIGNS})
        at = window.cursor if window.cursor is not None else figure.extent[1] + 1 if figure.extent else 0.0
        found = next((x for x in places if x > at), None) if by > 0 else next((x for x in reversed(places) if x < at), None)
        if found is None:
            return False
        window.show(figure, found)
        self._draw()
        return True

    def fit(self) -> None:
        """Everything, following the newest point, without a cursor."""
        self.active.window.fit()
        self._draw()

    def leave(self) -> None:
        """Escape: from one chart to all, else to everything of it."""
        if self.maximised:
            self.maximise()
        else:
            self.fit()

    def log_scale(self) -> None:
        """Logarithmic or linear."""
        self.active.log_values = not self.active.log_values
        self.active.draw()

    def maximise(self) -> None:
        """The active chart alone, or all again."""
        self.maximised = not self.maximised
        self._activate(self.slot)

    def other_metric(self) -> str | None:
        """Show the next metric in the active chart; its name, None when this chart shows one thing only."""
        names = other_metrics(self._state)
        if self.slot in (LOSS, MEMORY) or not names:
            return None
        at = names.index(self.active.metric) if self.active.metric in names else -1
        self.active.chosen = True
        self.active.set_metric(names[(at + 1) % len(names)])
        self._draw()
        return self.active.metric

    def next_gpu(self) -> int:
        """Show the memory of the run's next GPU; how many there are."""
        count = len(run_gpus(self._state))
        self.gpu = (self.gpu + 1) % count if count else 0
        self._draw()
        return count
