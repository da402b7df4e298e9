"""The box that says what each column is for: targets with the column that each is made from, and how three rows come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message

from tuitune.errors import UserError
from tuitune.text import printable
from tuitune.workbench.parts.question import Question
from tuitune.workbench.parts.role_lines import Line, RoleLines
from tuitune.workbench.views.dataset.detail import made_lines
from tuitune.workbench.views.dataset.pane import LinePane
from tuitune.workbench.widgets.line_list import LineList

TARGETS = {
    "messages": "a list of turns {role, content}",
    "system": "the system turn",
    "user": "what the user says",
    "context": "added to the user's turn",
    "assistant": "what the model learns to say",
    "reasoning": "thoughts before the answer",
    "prompt": "text or turns before the completion",
    "completion": "what is learnt after the prompt",
    "text": "plain text, no template",
    "chosen": "the better answer",
    "rejected": "the worse answer",
    "tools": "the tools a turn may call",
    "label": "good or bad, for KTO",
}
NOTHING = "–"
SAMPLES = 3
Preview = Callable[[dict[str, str]], Sequence[Mapping[str, Any]]]  # answers of the reader's `row`, in a thread


class MappingBox(Question[dict[str, str] | None]):
    """Returns the mapping, or None when it was left with Escape. `where` says what Enter writes into; empty: it writes nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", show=False),
        Binding("left", "change(-1)", show=False, priority=True),
        Binding("right,space", "change(1)", show=False, priority=True),
        Binding("delete,backspace", "clear", show=False),
        Binding("enter", "take", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    MappingBox { align: center middle; }
    MappingBox #mapping { width: 100; max-width: 98%; height: 36; max-height: 96%; padding: 0 1; }
    MappingBox #mapping { background: $surface; border: round $primary; }
    MappingBox LineList { height: 13; background: $surface; scrollbar-background: $surface; }
    MappingBox LinePane { height: 1fr; background: $surface; }
    MappingBox.-flat LineList { height: 7; }
    """

    class Previewed(Message):
        """Three rows have come out, or not."""

        def __init__(self, mapping: dict[str, str], lines: list[Line], fits: bool) -> None:
            super().__init__()
            self.mapping = mapping
            self.lines = lines
            self.fits = fits

    def __init__(self, columns: Sequence[str], mapping: Mapping[str, str], where: str, preview: Preview) -> None:
        super().__init__()
        self.columns = list(columns)
        self.mapping = {target: source for target, source in mapping.items() if target in TARGETS}
        self.kept = {target: source for target, source in mapping.items() if target not in TARGETS}
        self.fits = False
        self._preview = preview
        self._list = LineList()
        self._pane = LinePane()
        words = f"Enter writes it into {where}" if where else "no recipe of this folder names this file: nothing is written"
        keys = "← → another column · Del none · Esc leaves everything as it was"
        self._head = RoleLines([(("What is each column for?", "title"), (f"  {words}", "")), ((keys, "dim"),)])
        self._titles = RoleLines([(("how the first rows come out", "dim"),)])

    def compose(self) -> ComposeResult:
        with Vertical(id="mapping"):
            yield self._head
            yield self._list
            yield self._titles
            yield self._pane

    def on_mount(self) -> None:
        self.set_class(self.app.size.height < 30, "-flat")
        self._list.focus()
        self._show()
        self._list.cursor = next((index for index, target in enumerate(TARGETS) if target in self.mapping), 0)

    @property
    def whole(self) -> dict[str, str]:
        """The mapping as it will be written, in the order of the targets."""
        return {target: self.mapping[target] for target in TARGETS if target in self.mapping} | self.kept

    def _show(self) -> None:
        self._list.show([self._line(target) for target in TARGETS])
        mapping = self.whole
        self.run_worker(lambda: self._come_out(mapping), thread=True, group="preview", exclusive=True, exit_on_error=False)

    def _line(self, target: str) -> Content:
        source = self.mapping.get(target)
        shown = printable(source, limit=40) if source is not None else NOTHING
        return Content.assemble(
            (f" {target:<11}", "bold" if source is not None else ""),
            (f"← {shown:<30} ", "$primary" if source is not None else "$text-disabled"),
            (TARGETS[target], "$text-muted"),
        )

    def _come_out(self, mapping: dict[str, str]) -> None:
        width = max(20, self._pane.size.width - 1 if self._pane.size.width else 70)
        lines: list[Line] = []
        fits = False
        try:
            answers = self._preview(mapping) if mapping else []
        except UserError as error:
            answers = [{"error": str(error)}]
        for answer in answers:
            lines += [((f"row {answer.get('row', 0) + 1:,}", "two"),), *made_lines(answer, width)[:200]]
            fits = fits or "made" in answer
        self.post_message(self.Previewed(mapping, lines or [(("choose a column for at least one target", "dim"),)], fits))

    def on_mapping_box_previewed(self, event: Previewed) -> None:
        if event.mapping == self.whole:
            self.fits = event.fits
            self._pane.show(event.lines)

    def action_change(self, by: int) -> None:
        """The next or previous column for the target under the cursor; between the last and the first stands none."""
        target = list(TARGETS)[self._list.cursor]
        choices = [None, *self.columns]
        now = self.mapping.get(target)
        chosen = choices[(choices.index(now if now in choices else None) + by) % len(choices)]
        if chosen is None:
            self.mapping.pop(target, None)
        else:
            self.mapping[target] = chosen
        self.fits = False
        self._show()

    def action_clear(self) -> None:
        """No column for the target under the cursor."""
        self.mapping.pop(list(TARGETS)[self._list.cursor], None)
        self._show()

    def action_take(self) -> None:
        """Enter: only a mapping by which at least one of the rows comes out."""
        if self.fits:
            self.dismiss(self.whole)
        else:
            self.notify("By this mapping none of the rows comes out: see below why.", severity="warning")

    def action_leave(self) -> None:
        """Escape."""
        self.dismiss(None)
