"""The commands that a run's dashboard sends to its trainer: each is checked, asked about in plain words, sent in a thread, and followed
until the trainer has answered."""

import asyncio
import math
import re
import shlex
import uuid
from collections.abc import Mapping
from time import time
from typing import Any

from textual import work

from tuitune.bus.client import HubClient
from tuitune.errors import UserError
from tuitune.runs.directory import RunDirectory
from tuitune.text import printable
from tuitune.workbench.commands.registry import key_of
from tuitune.workbench.live_batch import batch_in_force
from tuitune.workbench.live_check import KINDS, MODES, PAUSED, check, refusal
from tuitune.workbench.live_complete import parse
from tuitune.workbench.live_state import ACCUMULATION, BATCH, command_words, value_words
from tuitune.workbench.live_words import batch_sentences, sentences, title, when
from tuitune.workbench.parts.ask import Ask
from tuitune.workbench.parts.confirm import Choice, Confirm
from tuitune.workbench.run_state import RunState
from tuitune.workbench.views.run.command_bar import CommandBar
from tuitune.workbench.views.run.resuming import resume_ended
from tuitune.workbench.views.view import View

PATIENCE = 1.0  # seconds after which a command without an answer is said to wait
YES = [Choice("y", "Yes", "yes")]
ASKS_AGAIN = ("reshape", "kill", "stop", "pause")  # typed in the bar they are asked about all the same: they cost work or change the run
RATE_HINT = (
    f"A rate, then {', '.join(KINDS[:-1])} or {KINDS[-1]} ({KINDS[0]} when left out); linear and cosine also take steps=N and end=RATE."
)


class LiveCommands(View):
    """A view whose `run_state` is that of the run in its path."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.sent: dict[str, str] = {}  # ids of commands that wait for their answer, and their words
        self._alarmed = -math.inf  # when the newest alarm that was said was given

    @property
    def run_state(self) -> RunState:
        """The run as far as it was read."""
        raise NotImplementedError

    # Commands of commands/run.py

    def action_save_checkpoint(self) -> None:
        """Ask the trainer for a checkpoint."""
        self.propose("save")

    def action_evaluate(self) -> None:
        """Ask the trainer for an evaluation."""
        self.propose("evaluate")

    def action_snapshot(self) -> None:
        """Ask the trainer for a snapshot of the GPU's memory."""
        self.propose("snapshot")

    def action_stacks(self) -> None:
        """Have the trainer's stacks written into its log."""
        self.propose("stacks")

    def action_kill_run(self) -> None:
        """End trainer and hub at once."""
        self.propose("kill")

    def action_pause_run(self) -> None:
        """Pause at the next boundary; a paused run is asked about going on."""
        if self.run_state.state in PAUSED:
            self.propose("resume")
            return
        cap = self.run_state.offers.get("pause")
        modes = (cap.modes if cap else ()) or MODES
        self.propose("pause", choices=[Choice(mode[0], mode.capitalize(), mode) for mode in modes])

    def action_resume(self) -> None:
        """Go on: a paused run by a command, an ended one by a new attempt."""
        state = self.run_state
        if state.over:
            self.resume_ended()
        elif state.state in PAUSED:
            self.propose("resume")
        else:
            self.notify(f"The run is {state.state}: {key_of('run.pause')} pauses it, Shift+F5 stops it.")

    @work(exclusive=True, group="run-question")
    async def resume_ended(self) -> None:
        """A new attempt of a run that has ended."""
        await resume_ended(self, self.path)

    def action_set_rate(self) -> None:
        """Ask for a learning rate and what it does from then on."""
        self.ask_setting("learning_rate", RATE_HINT)

    def action_set_scheduler(self) -> None:
        """Ask for the curve from the present rate on."""
        self.ask_setting("lr_scheduler", "constant, linear or cosine from the present rate on.")

    def action_set_max_steps(self) -> None:
        """Ask for the last step."""
        self.ask_setting("max_steps", "The step after which the run ends.")

    def action_set_logging_steps(self) -> None:
        """Ask how often it logs."""
        self.ask_setting("logging_steps", "It logs every so many steps.")

    def action_set_save_steps(self) -> None:
        """Ask how often it saves."""
        self.ask_setting("save_steps", "It saves a checkpoint every so many steps.")

    def action_set_eval_steps(self) -> None:
        """Ask how often it evaluates."""
        self.ask_setting("eval_steps", "It evaluates every so many steps.")

    @work(exclusive=True, group="run-question")
    async def action_sample_now(self) -> None:
        """Let the model answer the prompts of watch.prompts, or one that is typed."""
        if not self._taken("sample"):
            return
        choices = [Choice("y", "The run's own prompts", "own"), Choice("p", "Another prompt…", "other")]
        answer = await self._confirmed("sample", {}, choices)
        if answer == "own":
            self.send("sample", {})
        elif answer == "other" and (prompt := await self.app.push_screen_wait(Ask("Prompt", "One user turn, as in a chat."))):
            self.send("sample", {"prompt": prompt})

    @work(exclusive=True, group="run-question")
    async def action_reshape(self) -> None:
        """Ask for rows per device and accumulation."""
        if not self._taken("reshape"):
            return
        batch = await asyncio.to_thread(batch_in_force, RunDirectory(self.path).effective, self.run_state)
        text = f"{batch[0]} x {batch[1]}" if batch else ""
        hint = f"Rows per device × accumulation steps, e.g. 2 x 8.{f' Now {batch[0]} × {batch[1]}.' if batch else ''}"
        while text := await self.app.push_screen_wait(Ask("Batch and accumulation", hint, text)):
            numbers = re.split(r"\s*[x×*\s]\s*", text)
            args = dict(zip((BATCH, ACCUMULATION), (int(word) if word.isdecimal() else word for word in numbers)))
            hint = "Two whole numbers, e.g. 2 x 8." if len(numbers) != 2 else check("reshape", args, self.run_state)
            if not hint:
                if await self._confirmed("reshape", args, YES):
                    self.send("reshape", args)
                return

    def action_apply_alarm(self) -> None:
        """The command that the newest alarm proposes."""
        alarm = self.run_state.alarm
        if alarm is None or not alarm.op:
            self.notify("No alarm proposes anything now.")
        else:
            self.propose(alarm.op, alarm.args)

    def action_command_bar(self) -> None:
        """The line that takes a command."""
        if self.run_state.over:
            self.notify(f"The run is {self.run_state.state}; there is no trainer to ask.", severity="warning")
        else:
            self.query_one(CommandBar).open()

    def on_command_bar_wanted(self, event: CommandBar.Wanted) -> None:
        op, args = parse(event.text)
        if op in ASKS_AGAIN:
            self.propose(op, args)
        else:  # the bar has said what it does and when
            self.send(op, args)

    def on_command_bar_left(self) -> None:
        self.focus_content()

    # Asking

    def _taken(self, op: str) -> bool:
        if refused := refusal(op, self.run_state):
            self.notify(refused, severity="warning")
        return not refused

    async def _confirmed(self, op: str, args: Mapping[str, Any], choices: list[Choice]) -> str:
        state = self.run_state
        if op == "reshape":
            batch = await asyncio.to_thread(batch_in_force, RunDirectory(self.path).effective, state)
            lines = batch_sentences(args, state, time(), batch)
        else:
            lines = sentences(op, args, state, time())
        return await self.app.push_screen_wait(Confirm(title(op, args), [self.title, *lines], choices)) or ""

    @work(exclusive=True, group="run-question")
    async def propose(self, op: str, args: Mapping[str, Any] | None = None, choices: list[Choice] | None = None) -> None:
        """Say what will happen, and send the command when the user agrees. `choices`: modes of a pause."""
        given = dict(args or {})
        if refused := check(op, given, self.run_state):
            self.notify(refused, severity="warning")
            return
        answer = await self._confirmed(op, given, choices or YES)
        if answer:
            self.send(op, {**given, "mode": answer} if choices else given)

    @work(exclusive=True, group="run-question")
    async def ask_setting(self, name: str, hint: str) -> None:
        """Ask for a value of `set`, again with what is wrong until it is right; then say what it does, and send it."""
        if not self._taken("set"):
            return
        state = self.run_state
        if name not in state.offers["set"].settings:
            self.notify(check("set", {"key": name, "value": 0}, state), severity="warning")
            return
        now = value_words(state.setting(name))
        text, said = now, f"Now {now}. {hint}"
        while text := await self.app.push_screen_wait(Ask(f"Set {name}", said, text)):
            try:
                args = setting_arguments(name, text)
                said = check("set", args, self.run_state)
            except UserError as error:
                said = str(error)
            if not said:
                if await self._confirmed("set", args, YES):
                    self.send("set", args)
                return

    # Sending

    def send(self, op: str, args: Mapping[str, Any]) -> None:
        """Send a command to the hub, say that it is on its way, and later what became of it."""
        name = str(uuid.uuid4())
        self.sent[name] = command_words(op, args)
        self._send(name, op, dict(args))

    @work(thread=True, group="run-command")
    def _send(self, name: str, op: str, args: dict[str, Any]) -> None:
        try:
            reply = HubClient(self.path).send(op, args, id=name)
        except UserError as error:
            reply = {"s": "failed", "error": str(error)}
        self.app.call_from_thread(self._told, name, reply)

    def _told(self, name: str, reply: dict[str, Any]) -> None:
        words, state = self.sent.get(name, ""), reply.get("s")
        if state == "queued":
            self.set_timer(PATIENCE, lambda: self._tell_waiting(name))
            return
        self.sent.pop(name, None)
        error = printable(str(reply.get("error") or ""), limit=300)
        if state == "applied":
            self.notify(f"{words}: done.", markup=False)
        elif state == "no_trainer":
            self.notify(f"{words}: no trainer is listening{': ' + error if error else ''}.", severity="warning", markup=False)
        else:
            self.notify(f"{words}: {error or 'the hub gave no reason'}.", severity="error", markup=False)

    def _tell_waiting(self, name: str) -> None:
        """A command is on its way for a while already: say when it will be done."""
        if words := self.sent.get(name):
            self.notify(f"{words}: {when(self.run_state, time())}.", markup=False)

    def tell_alarms(self, *, quietly: bool) -> None:
        """Say what was alarmed since the last time; `quietly`: it is history, so it only counts as said."""
        alarm, before = self.run_state.alarm, self._alarmed
        if alarm is None or alarm.time <= before:
            return
        self._alarmed = alarm.time
        if not quietly:
            proposal = f" {key_of('run.alarm')}: {command_words(alarm.op, alarm.args)}" if alarm.op else ""
            text = alarm.text if alarm.text.endswith(".") else f"{alarm.text}."
            self.notify(f"{alarm.place}: {text}{proposal}", title=self.title, severity="error", timeout=20, markup=False)

    def tell_answers(self) -> None:
        """Say what became of the commands sent from here that the trainer has answered since."""
        for name in list(self.sent):
            command = self.run_state.commands.get(name)
            if command is not None and command.state != "queued":
                del self.sent[name]
                at = f" at step {command.step}" if command.step is not None else ""
                failed = command.state == "failed"
                self.notify(f"{command.outcome}{at}.", severity="error" if failed else "information", markup=False)


def setting_arguments(name: str, text: str) -> dict[str, Any]:
    """The arguments of `set` from a line like "1e-4 hold" or "1e-4 kind=linear end=1e-5". UserError for a word that fits nowhere."""
    try:
        first, *rest = shlex.split(text)
    except ValueError:
        raise UserError("One value, e.g. 1e-4.") from None
    words = [f"kind={word}" if word in KINDS else word for word in rest]
    return parse(shlex.join(["set", f"{name}={first}", *words]))[1]
