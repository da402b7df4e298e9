"""The queue of a run as lines: what waits and since when, then what was answered: who, when, at which step, old → new, or why not.
Pure functions."""

from tuitune.workbench import figures
from tuitune.workbench.live_state import CommandState
from tuitune.workbench.parts.gpu_panel import wrapped
from tuitune.workbench.parts.role_lines import Line, Piece
from tuitune.workbench.run_state import RunState
from tuitune.workbench.views.run.events import clock

NONE_YET = "Nobody has told this run anything yet."


def queue_lines(state: RunState, now: float, width: int) -> list[Line]:
    """Pending commands, oldest first, then answered ones, newest first; `now` in unix seconds."""
    answered = sorted((one for one in state.commands.values() if one.answered is not None), key=lambda one: one.answered or 0, reverse=True)
    lines = [line for one in state.pending for line in _pending(one, now, state, width)]
    return [*lines, *(line for one in answered for line in _answered(one, width))]


def _pending(command: CommandState, now: float, state: RunState, width: int) -> list[Line]:
    by = f" by {command.by}" if command.by else ""
    waits = "was never answered" if state.over else f"waits for {figures.duration(now - command.time)}"
    return _spread([("… ", "warn")], f"{command.words}{by}", "title", f"{waits}, asked at {clock(command.time)}", width)


def _answered(command: CommandState, width: int) -> list[Line]:
    failed = command.state == "failed"
    step = f"step {command.step}" if command.step is not None else ""
    after = None if command.answered is None else command.answered - command.time
    took = f" after {after:.1f} s" if after is not None and after >= 0.05 else ""
    head: list[Piece] = [("✗ " if failed else "✓ ", "error" if failed else "good"), (f"{step:<11}", "dim")]
    return _spread(head, command.outcome, "error" if failed else "", f"{clock(command.answered or command.time)}{took}", width)


def _spread(head: list[Piece], words: str, role: str, note: str, width: int) -> list[Line]:
    """The words beside `head` over as many lines as they need, the note behind the last one or below it."""
    indent = sum(len(text) for text, _ in head)
    texts = ["".join(text for text, _ in line) for line in wrapped(words, max(10, width - indent), role)] or [""]
    lines: list[Line] = [(*head, (texts[0], role)), *(((" " * indent, ""), (text, role)) for text in texts[1:])]
    if indent + len(texts[-1]) + 2 + len(note) <= width:
        lines[-1] = (*lines[-1], (f"  {note}", "dim"))
        return lines
    return [*lines, ((" " * indent, ""), (note, "dim"))]
