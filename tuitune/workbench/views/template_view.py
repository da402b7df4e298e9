"""The chat template of a recipe beside what it makes of the recipe's rows: turn by turn, against another template, with answers marked.

The analyst renders (transformers' own sandbox, with a limit); the view shows the recipe as it is on disk. At the left the source, or the
difference to another one; at the right the render of one row; above the prefix test, below what is shown.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.events import Resize
from textual.message import Message

from tuitune.errors import UserError
from tuitune.text import printable
from tuitune.workbench.analysis import ask_document
from tuitune.workbench.commands import template as commands
from tuitune.workbench.parts.gpu_panel import wrapped
from tuitune.workbench.parts.role_lines import Line, Piece, RoleLines
from tuitune.workbench.parts.role_scroll import RoleScroll
from tuitune.workbench.views.template import lines as drawn
from tuitune.workbench.views.view import View

if TYPE_CHECKING:
    from tuitune.template.document import ComparedRow, Conversation, RenderedRow, TemplateReport

NARROW = 90  # cells; below it the source stands above the render
FLAT = 30  # lines; below it the result of a comparison takes the place of the prefix test's
MOST = 6  # lines of such a result
WAITING = "waiting for the analyst …"
KEYS = {
    "source": "n p rows · [ ] turns · f failing · d compare · g mark answers",
    "diff": "n p rows · f the next that differs · d compare with another · Esc the source",
    "marking": "w write it beside the recipe · n p rows · Esc the source",
}


class TemplateView(View):
    """`path` is the recipe. `mode`: what stands at the left, "source", "diff" or "marking"."""

    kind = "template"
    commands: ClassVar = commands.COMMANDS
    DEFAULT_CSS = """
    TemplateView { layout: vertical; padding: 0 1; }
    TemplateView > RoleLines { height: auto; }
    TemplateView #template-panes { height: 1fr; margin-top: 1; }
    TemplateView .template-pane { height: 1fr; width: 1fr; }
    TemplateView .template-pane RoleScroll { height: 1fr; }
    TemplateView #template-left { margin-right: 2; }
    TemplateView.-narrow #template-panes { layout: vertical; margin-top: 0; }
    TemplateView.-narrow #template-left { margin-right: 0; }
    """

    class Told(Message):
        """The analyst says what it does, or why it failed."""

        def __init__(self, text: str, failed: bool = False) -> None:
            super().__init__()
            self.text = text
            self.failed = failed

    class Answered(Message):
        """The analyst has answered a request for a mode."""

        def __init__(self, mode: str, report: TemplateReport) -> None:
            super().__init__()
            self.mode = mode
            self.report = report

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.report: TemplateReport | None = None
        self.compared: TemplateReport | None = None
        self.marked: TemplateReport | None = None
        self.mode = "source"
        self.at = 0  # index of the row
        self.side = 0  # of its conversations
        self.turns = 0  # so many of its turns are shown, 0 = all
        self._said: TemplateView.Told | None = None
        self._cancel = threading.Event()
        self._head = RoleLines([((WAITING, "dim"),)])
        self._left_title = RoleLines([()])
        self._left = RoleScroll(id="template-source")
        self._right_title = RoleLines([()])
        self._right = RoleScroll(id="template-render")
        self._foot = RoleLines([(), ()])

    @property
    def title(self) -> str:
        return f"{printable(self.path.stem)} template"

    def compose(self) -> ComposeResult:
        yield self._head
        with Horizontal(id="template-panes"):
            with Vertical(classes="template-pane", id="template-left"):
                yield self._left_title
                yield self._left
            with Vertical(classes="template-pane"):
                yield self._right_title
                yield self._right
        yield self._foot

    def on_mount(self) -> None:
        self.action_render_again()

    def on_unmount(self) -> None:
        self._cancel.set()

    def focus_content(self) -> None:
        self._right.focus()

    # Asking the analyst

    def action_render_again(self) -> None:
        """Render once more: the recipe, the data or the template have changed."""
        self.report = self.compared = self.marked = None
        self.mode = "source"
        self._ask("source", {})

    def show_row(self, row: int) -> None:
        shown = [each.row for each in self.report.rows] if self.report else []
        if row in shown:
            self._step(shown.index(row) - self.at)
        else:
            self.at = 0
            self._ask("source", {"rows": [row]})

    def _ask(self, mode: str, wishes: dict[str, Any]) -> None:
        self._cancel.set()
        self._cancel = cancel = threading.Event()
        self.on_template_view_told(self.Told(WAITING))
        self.run_worker(lambda: self._request(mode, wishes, cancel), thread=True, group="template", exit_on_error=False)

    def _request(self, mode: str, wishes: dict[str, Any], cancel: threading.Event) -> None:
        from tuitune.template.document import TemplateReport

        def told(text: str, failed: bool) -> None:
            self.post_message(self.Told(text, failed))

        def answered(report: TemplateReport) -> None:
            self.post_message(self.Answered(mode, report))

        ask_document(self.app, "template", {"recipe": str(self.path), **wishes}, TemplateReport, cancel, told, answered)

    def on_template_view_told(self, event: Told) -> None:
        self._said = event
        self._show_head()

    def on_template_view_answered(self, event: Answered) -> None:
        self._said = None
        self.mode = event.mode
        if event.mode == "marking":
            self.marked = event.report
        else:
            self.report = event.report
            self.compared = event.report if event.mode == "diff" else None
        self._paint()

    # What is shown

    def on_resize(self, event: Resize) -> None:
        self.set_class(event.size.width < NARROW, "-narrow")
        self.call_after_refresh(self._paint)

    @property
    def row(self) -> RenderedRow | None:
        """The row that is shown."""
        rows = self.report.rows if self.report is not None else []
        return rows[self.at % len(rows)] if rows else None

    @property
    def talk(self) -> Conversation | None:
        """The row's conversation that is shown."""
        row = self.row
        return row.conversations[self.side % len(row.conversations)] if row is not None and row.conversations else None

    def _compared_row(self) -> ComparedRow | None:
        comparison = self.compared.comparison if self.mode == "diff" and self.compared is not None else None
        row, talk = self.row, self.talk
        if comparison is None or row is None or talk is None:
            return None
        return next((other for other in comparison.rows if (other.row, other.name) == (row.row, talk.name)), None)

    def _paint(self) -> None:
        self._show_head()
        if self.report is None:
            return
        self._show_left()
        self._show_row()

    def _show_head(self) -> None:
        from tuitune.template.report import comparison_line, marking_lines, prefix_line

        width = max(20, self.size.width - 2)
        said: list[Line] = []
        if self._said is not None:
            said = wrapped(printable(self._said.text), width, "error" if self._said.failed else "dim")[:5]
        if self.report is None:
            self._head.show(said)
            return
        failing = any(talk.faults or talk.error for row in self.report.rows for talk in row.conversations)
        found = wrapped(prefix_line(self.report), width, "warn" if failing else "good") if self.report.rows else []
        found += wrapped(self.report.note or "", width, "warn")
        special: list[Line] = []
        if self.mode == "diff" and self.compared is not None and self.compared.comparison is not None:
            special = wrapped(comparison_line(self.compared.comparison), width, "title")
        if self.mode == "marking" and self.marked is not None and self.marked.marking is not None:
            refused = self.marked.marking.refused is not None
            for text in marking_lines(self.marked.marking):
                special += wrapped(printable(text), width, "error" if refused else "good")
        self._head.show([*(found if self.size.height >= FLAT or not special else []), *special[:MOST], *said])

    def _pane_width(self) -> int:
        """Cells for text in a pane, by the view's own size: the panes' may still be those of another arrangement."""
        inside = self.size.width - 2
        return max(10, (inside if self.size.width < NARROW else (inside - 2) // 2) - 1)

    def _show_left(self) -> None:
        assert self.report is not None
        source = self.report.source
        width = self._pane_width()
        title = f"{source.origin} · sha256 {source.sha256[:12]}"
        shown: list[Line]
        if self.mode == "diff" and self.compared is not None and self.compared.comparison is not None:
            title = f"against {self.compared.comparison.other.origin}"
            shown = self._patch(self.compared.comparison.patch, "the sources are the same", width)
        elif self.mode == "marking" and self.marked is not None and self.marked.marking is not None:
            title = "with generation markers"
            shown = self._patch(self.marked.marking.patch, "", width)
        else:
            shown = drawn.flowed(drawn.highlighted(source.text), width, numbers=True)
        self._left_title.show([((printable(title), "title"),)])
        self._left.show(shown)
        self._left.scroll_home(animate=False, immediate=True)

    def _patch(self, patch: str, same: str, width: int) -> list[Line]:
        return drawn.flowed(drawn.patch_pieces(patch) if patch else [(same, "dim")], width)

    def _show_row(self) -> None:
        row, talk = self.row, self.talk
        if row is None or talk is None or self.report is None:
            self._right.show([])
            self._right_title.show([()])
            self._foot.show([((KEYS[self.mode], "dim"),)])
            return
        count = self.turns or len(talk.turns)
        compared = self._compared_row()
        pieces: list[Piece] = drawn.turns_shown(talk, count, marked=self.mode == "marking")
        if compared is not None and not compared.equal:
            changed = compared.render and compared.error is None
            pieces = drawn.differing(talk.text, compared.render) if changed else [(compared.error or "the same text, other tokens", "warn")]
        place = f"{printable(Path(row.file).name)}:{row.line}"
        self.status = f"row {row.row}"
        self.breadcrumb = place
        self._right.show(drawn.flowed(pieces, self._pane_width() - 1, ends=compared is None or compared.equal))
        (self._right.scroll_end if self.turns else self._right.scroll_home)(animate=False, x_axis=False, immediate=True)
        side = f" · {talk.name} (s: the other)" if len(row.conversations) > 1 else ""
        tokens = "" if talk.tokens is None else f" · {talk.tokens:,} tokens"
        alone = "  these turns alone" if talk.turns and talk.turns[count - 1].alone is not None else ""
        self._right_title.show([((f"row {row.row}{side}", "title"), (f"  {place}{tokens}", "dim"), (alone, "warn"))])
        words, role = self._turn_words(talk, count, compared)
        self._foot.show([*wrapped(words, max(20, self.size.width - 2), role)[:3], ((KEYS[self.mode], "dim"),)])

    def _turn_words(self, talk: Conversation, count: int, compared: ComparedRow | None) -> tuple[str, str]:
        """(what can be said of the row or the turn that is shown, role)."""
        from tuitune.template.report import compared_line, fault_line

        if compared is not None:
            return compared_line(compared), "good" if compared.equal else "warn"
        if talk.error is not None or not talk.turns:
            return talk.error or "no turns", "error"
        faults = [fault for fault in talk.faults if fault.turn == count] if self.turns else talk.faults
        if faults:
            return fault_line(faults[0]), "warn"
        if self.turns:
            return f"turn {count} of {len(talk.turns)}: {printable(talk.turns[count - 1].role)}, begins with the render before it", "good"
        return f"{len(talk.turns)} turns, each begins with the render before it", "good"

    # Stepping

    def action_next_row(self) -> None:
        """The next row, round the end."""
        self._step(1)

    def action_previous_row(self) -> None:
        """The row before, round the beginning."""
        self._step(-1)

    def _step(self, by: int) -> None:
        if self.report is not None and self.report.rows:
            self.at = (self.at + by) % len(self.report.rows)
            self.turns = 0
            self._show_row()

    def action_next_failing(self) -> None:
        """The next row that fails the prefix test, cannot be rendered, or differs from the other template."""
        if self.report is None or not self.report.rows:
            return
        rows = self.report.rows
        comparison = self.compared.comparison if self.mode == "diff" and self.compared is not None else None
        different = {row.row for row in comparison.rows if not row.equal} if comparison is not None else None
        for ahead in range(1, len(rows) + 1):
            row = rows[(self.at + ahead) % len(rows)]
            if any(talk.faults or talk.error for talk in row.conversations) if different is None else row.row in different:
                self._step(ahead)
                return
        self.app.notify("No row fails the prefix test." if different is None else "No row differs.")

    def action_next_turn(self) -> None:
        """One turn more; after the last the whole render."""
        self._step_turn(1)

    def action_previous_turn(self) -> None:
        """One turn less; before the first the whole render."""
        self._step_turn(-1)

    def _step_turn(self, by: int) -> None:
        if self.talk is not None and self.talk.turns:
            self.turns = (self.turns + by) % (len(self.talk.turns) + 1)
            self._show_row()

    def action_other_side(self) -> None:
        """Rejected instead of chosen, and back."""
        self.side += 1
        self.turns = 0
        self._show_row()

    def action_switch_pane(self) -> None:
        """From the source to the render and back."""
        (self._left if self._right.has_focus else self._right).focus()

    # Comparing and marking

    def action_compare(self) -> None:
        """Ask for the other template."""
        if self.report is not None:
            self.run_worker(self._compare(), group="ask", exclusive=True, exit_on_error=False)

    async def _compare(self) -> None:
        from tuitune.workbench.parts.ask import Ask

        hint = "A Jinja or GGUF file, a model's folder, a Hub id, or `training`: what TRL makes of it"
        other = await self.app.push_screen_wait(Ask("Compare with", hint, "training"))
        if other:
            self._ask("diff", {"other": other})

    def action_mark(self) -> None:
        """Put markers round the answers and prove them on all rows."""
        if self.report is not None:
            self._ask("marking", {"mark": True, "rows": []})

    def action_back(self) -> None:
        """The source again."""
        if self.mode != "source" or self._said is not None:
            self._cancel.set()
            self._said, self.mode = None, "source"
            self._paint()

    def action_write(self) -> None:
        """Write the marked template; asks first."""
        self.run_worker(self._write(), group="ask", exclusive=True, exit_on_error=False)

    async def _write(self) -> None:
        from tuitune.template.report import marked_path
        from tuitune.workbench.parts.confirm import Choice, Confirm
        from tuitune.workbench.views.template.writing import keep

        report = self.marked
        if self.mode != "marking" or report is None or report.marking is None or report.marking.refused is not None:
            self.app.notify("There is no marked template to write: g makes one.")
            return
        target = printable(marked_path(self.path).name)
        choices = [Choice("b", "Write and use it", "set"), Choice("f", "Only the file", "file")]
        lines = [f"{target} is written beside the recipe; to use it means tokenizer.chat_template: {target} in the recipe."]
        answer = await self.app.push_screen_wait(Confirm("Write the marked template?", lines, choices))
        if answer:
            try:
                self.app.notify(await asyncio.to_thread(keep, report, self.path, set_it=answer == "set"))
            except (UserError, OSError) as error:
                self.app.notify(str(error), title="Not written", severity="error", timeout=10)
