"""A chat job on screen: one or two models beside each other, their answers as they are drawn, and the line that asks them.

The job is a process of its own under its hub: closing the tab or the workbench does not end it (Shift+F5 does, or half an hour of silence).
A reader thread fills the state, commands go out in threads.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual import work
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.widgets import Input

from tuitune.after.chat_params import Params, parse
from tuitune.after.chat_rows import DEFAULT_FILE, append_row
from tuitune.bus.client import HubClient
from tuitune.errors import UserError
from tuitune.text import printable
from tuitune.workbench.commands import chat as commands
from tuitune.workbench.commands.registry import key_of
from tuitune.workbench.parts.ask import Ask
from tuitune.workbench.parts.confirm import Choice, Confirm
from tuitune.workbench.parts.role_lines import RoleLines
from tuitune.workbench.parts.role_scroll import RoleScroll
from tuitune.workbench.views.chat.feed import ChatFeed
from tuitune.workbench.views.chat.lines import conversation, head, params_line, probability_lines, side_title
from tuitune.workbench.views.following import Following

STACKED = 84  # cells of the view below which the two sides stand one below the other
PERIOD = 0.15  # seconds between paints of a growing answer; slower by itself where the line is slow


class Column(Vertical):
    """One side: its name and what it said."""

    DEFAULT_CSS = """
    Column { width: 1fr; height: 1fr; }
    Column > RoleLines { height: 1; padding: 0 1; background: $panel; }
    Column > RoleScroll { height: 1fr; padding: 0 1; }
    Column.-second { border-left: solid $border-blurred; }
    """

    def __init__(self, key: str, resized: Callable[[], object], *, second: bool) -> None:
        super().__init__(classes="-second" if second else "")
        self.key = key
        self._resized = resized
        self.head = RoleLines([()])
        self.body = RoleScroll(follow=True)

    def compose(self) -> ComposeResult:
        yield self.head
        yield self.body

    def on_resize(self) -> None:
        self._resized()


class ChatView(Following):
    """`path` is the run directory of the chat job."""

    kind = "chat"
    commands = commands.COMMANDS
    DEFAULT_CSS = """
    ChatView { layout: vertical; }
    ChatView > #chat-head { height: auto; max-height: 3; padding: 0 1; }
    ChatView > #chat-columns { height: 1fr; layout: horizontal; }
    ChatView > #chat-columns.-stacked { layout: vertical; }
    ChatView > #chat-columns.-stacked > Column.-second { border-left: none; }
    ChatView > #chat-params { height: 1; padding: 0 1; }
    ChatView > Input, ChatView > Input:focus { border: none; height: 1; padding: 0 1; background: $panel; }
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.feed = ChatFeed(path, self.arrived)
        self.feeds = [self.feed]
        self.pace.period = PERIOD
        self.params: Params | None = None  # what the user has set for the next question
        self.probabilities = False
        self.question = Input(placeholder="ask something, Enter sends")
        self.question.cursor_blink = False
        self.sides = Container(id="chat-columns")

    def compose(self) -> ComposeResult:
        yield RoleLines(id="chat-head")
        yield self.sides
        yield RoleLines([()], id="chat-params")
        yield self.question

    def focus_content(self) -> None:
        self.question.focus()

    @property
    def over(self) -> bool:
        """Whether the job has ended."""
        return self.feed.state.over

    # Painting

    def _repaint(self) -> None:
        """Paint when everything has its size."""
        self.call_after_refresh(self._paint)

    def _paint(self) -> None:
        """Show the state as it is; each part redraws only what differs."""
        self._paint_waits = False
        if not self.is_mounted or not self.is_attached:
            return
        chat, started = self.feed.chat, self.pace.painted()
        chat.state, chat.why = self.feed.state.state, self.feed.state.why  # with what the processes say: lost
        self.status = "over" if self.over else "answering" if chat.busy else "ready" if chat.ready else chat.state
        if chat.ready and len(self.sides.children) != len(chat.sides):
            self.sides.remove_children()
            self.sides.mount(*(Column(side.key, self._repaint, second=index > 0) for index, side in enumerate(chat.sides)))
            return  # they paint when they have their size
        self.sides.set_class(self.size.width < STACKED, "-stacked")
        width = max(20, self.size.width - 2)
        self.query_one("#chat-head", RoleLines).show(head(chat, self.over, width))
        for column, side in zip(self.query(Column), chat.sides):
            column.head.show([side_title(side)])
            room = max(16, column.body.size.width - 3)
            shown = chat.turns[-1].answers.get(side.key) if chat.turns else None
            column.body.show(probability_lines(shown, room) if self.probabilities else conversation(chat, side.key, room))
        self.query_one("#chat-params", RoleLines).show([params_line((self.params or Params().with_values(chat.params)).as_dict())])
        self.question.display = not self.over
        self.call_after_refresh(self.pace.took, started)

    # Asking

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        text = event.value
        if not text.strip():
            return
        if not self.feed.chat.ready or self.feed.chat.busy:
            self.notify("It is answering: Esc interrupts." if self.feed.chat.ready else "The models are still being loaded.")
            return
        self.probabilities = False
        self._send("ask", {"text": text, "params": self._params().as_dict()}, clear=True)

    def _params(self) -> Params:
        return self.params or Params().with_values(self.feed.chat.params)

    @work(group="chat-send")
    async def _send(self, op: str, args: dict[str, Any], clear: bool = False, quiet: bool = False) -> None:
        """A command to the job, in a thread; what is refused is said unless `quiet`. clear: the question, once it was taken."""
        reply = await self._ask_job(op, args, quiet)
        if reply is not None and clear:
            self.question.value = ""

    async def _ask_job(self, op: str, args: dict[str, Any], quiet: bool = False) -> dict[str, Any] | None:
        try:
            reply = await asyncio.to_thread(lambda: HubClient(self.path).send(op, args, until="applied", wait_s=30))
        except UserError as error:
            self.notify(printable(str(error), newlines=True), severity="error", markup=False)
            return None
        if reply.get("error") and not quiet:
            self.notify(printable(str(reply["error"]), newlines=True), severity="error", markup=False)
        return None if reply.get("error") else reply

    # Commands of commands/chat.py

    def action_interrupt(self) -> None:
        """Escape: end the answer; from the probabilities, back to the text; else the keyboard to the question."""
        if self.feed.chat.busy:
            self._send("interrupt", {}, quiet=True)  # it may just have ended by itself
        elif self.probabilities:
            self.action_show_probabilities()
        self.focus_content()

    def action_answer_again(self) -> None:
        """The last question once more."""
        if not self.feed.chat.turns:
            self.notify("Ask something first.")
            return
        self.probabilities = False
        params = self._params().as_dict()
        self._send("regenerate", {"params": {name: value for name, value in params.items() if name != "seed"}})

    def action_new_conversation(self) -> None:
        """Forget the turns."""
        self._send("reset", {})

    @work(exclusive=True, group="chat-question")
    async def action_set_params(self) -> None:
        """Ask for other sampling parameters."""
        hint = "NAME=VALUE, blanks between. temperature=0: always the likeliest; seed=auto: another one each time."
        text = await self.app.push_screen_wait(Ask("Sampling parameters", hint, self._params().words()))
        try:
            self.params = self._params().with_values(parse(text)) if text else self.params
        except UserError as error:
            self.notify(printable(str(error)), severity="error", markup=False)
        self._paint()

    @work(exclusive=True, group="chat-question")
    async def action_set_system(self) -> None:
        """Ask for another system prompt and begin anew."""
        hint = "What the models are told first. The conversation begins anew; a single - removes it."
        text = await self.app.push_screen_wait(Ask("System prompt", hint, self.feed.chat.system))
        if text:
            await self._ask_job("reset", {"system": "" if text == "-" else text})

    @work(exclusive=True, group="chat-question")
    async def action_show_probabilities(self) -> None:
        """The last answers token by token, or their text again."""
        turns = self.feed.chat.turns
        if self.probabilities or not turns or self.feed.chat.busy:
            self.probabilities = False
            if not turns or self.feed.chat.busy:
                self.notify("Ask something first." if not turns else "It is answering: Esc interrupts.")
        else:
            known = all(spoken.complete for spoken in turns[-1].answers.values())
            self.probabilities = known or await self._ask_job("probabilities", {"turn": turns[-1].number}) is not None
        self._paint()

    @work(exclusive=True, group="chat-question")
    async def action_keep_turn(self) -> None:
        """Append the conversation as a training row."""
        chat = self.feed.chat
        answered = [side for side in chat.sides if chat.messages(side.key)]
        if not answered:
            self.notify("No answer has ended by itself yet; one that is cut off is no row to learn from.")
            return
        side = answered[0]
        if len(answered) > 1:
            choices = [Choice("1", printable(answered[0].words, limit=30), "0"), Choice("2", printable(answered[1].words, limit=30), "1")]
            chosen = await self.app.push_screen_wait(Confirm("Whose answers belong into the row?", [], choices))
            if not chosen:
                return
            side = answered[int(chosen)]
        file = await self.app.push_screen_wait(Ask("Keep as a training row", "The .jsonl file it is appended to.", DEFAULT_FILE))
        if not file:
            return
        path = self._workspace() / Path(file).expanduser()
        try:
            rows = await asyncio.to_thread(append_row, path, chat.messages(side.key))
        except UserError as error:
            self.notify(printable(str(error)), severity="error", markup=False)
            return
        self.notify(f"{printable(str(path))} has {rows} row{'' if rows == 1 else 's'} now.", markup=False)

    def action_next_column(self) -> None:
        """Question → left → right → question."""
        stops = [self.question, *(column.body for column in self.query(Column))]
        at = next((index for index, widget in enumerate(stops) if widget.has_focus), 0)
        stops[(at + 1) % len(stops)].focus()

    def action_run_stop(self) -> None:
        """Shift+F5: end the chat, so that its memory is free."""
        if self.over:
            self.notify(f"{self.title} has ended. {key_of('view.runs')} lists the runs.")
        else:
            self._send("stop", {})

    def _workspace(self) -> Path:
        root = getattr(self.app, "root", None)
        return root if isinstance(root, Path) else Path.cwd()
