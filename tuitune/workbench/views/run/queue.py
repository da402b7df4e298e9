"""The queue of a run as lines: what waits and since when, then what was answered: who, when, at which step, old → new, or why not.
Pure functions."""

from tuitune.workbench import figures
from tuitune.workbench.live_state import CommandState
from tuitune.workbench.parts.role_lines import Line
from tuitune.workbench.run_state import RunState
from tuitune.workbench.views.run.events import clock

NONE_YET = "Nobody has told this run anything yet."


def queue_lines(state: RunState, now: float) -> list[Line]:
    """Pending commands, oldest first, then answered ones, newest first; `now` in unix seconds."""
    answered = sorted((one for one in state.commands.values() if one.answered is not None), key=lambda one: one.answered or 0, reverse=True)
    return [*(_pending(one, now, state) for one in state.pending), *(_answered(one) for one in answered)]


def _pending(command: CommandState, now: float, state: RunState) -> Line:
    by = f" by {command.by}" if command.by else ""
    waits = "was never answered" if state.over else f"waits for {figures.duration(now - command.time)}"
    return (("… ", "warn"), (command.words, "title"), (f"{by}  {waits}, asked at {clock(command.time)}", "dim"))


def _answered(command: CommandState) -> Line:
    failed = command.state == "failed"
    step = f"step {command.step}" if command.step is not None else ""
    after = None if command.answered is None else command.answered - command.time
    took = f"  after {after:.1f} s" if after is not None and after >= 0.05 else ""
    return (
        ("✗ " if failed else "✓ ", "error" if failed else "good"),
        (f"{step:<11}", "dim"),
        (command.outcome, "error" if failed else ""),
        (f"  {clock(command.answered or command.time)}{took}", "dim"),
    )
