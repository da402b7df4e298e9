"""The lines above a run's charts: where it stands, its newest figures, and what went wrong in plain words. Pure functions."""

from math import isfinite

from tuitune.workbench import figures
from tuitune.workbench.commands.registry import key_of
from tuitune.workbench.live_state import command_words
from tuitune.workbench.live_words import paused_words
from tuitune.workbench.parts.role_lines import Line, Piece
from tuitune.workbench.run_state import RunState
from tuitune.workbench.signs import state_sign
from tuitune.workbench.views.run import method_figures

SHORT = {
    "learning_rate": "lr",
    "grad_norm": "grad norm",
    "tokens_per_second": "tok/s",
    "eval_loss": "eval loss",
    "mean_token_accuracy": "accuracy",
    **method_figures.WORDS,
}
NEWEST = ("loss", "eval_loss", *method_figures.NEWEST, "learning_rate", "grad_norm", "mean_token_accuracy", "entropy")


def header_lines(state: RunState, now: float, width: int) -> list[Line]:
    """State and progress, then the newest value of each metric; `now` in unix seconds (a living run's clock goes on between records)."""
    mark, role = state_sign(state.state)
    pieces: list[Piece] = [(f"{mark} {state.state}", role)]
    if state.attempt > 1:
        began = state.seam.words if state.seam else f"attempt {state.attempt}"
        pieces.append((f"  {began if width >= 100 else f'attempt {state.attempt}'}", "warn"))
    share = state.step / state.max_steps if state.step is not None and state.max_steps else None
    if state.step is not None:
        pieces.append((f"  step {state.step}" + (f"/{state.max_steps}" if state.max_steps else ""), "title"))
    if share is not None:
        pieces += [(f" {min(1.0, share):.0%}", "dim")]
    for label, value in (
        ("epoch", None if state.epoch is None else f"{state.epoch:.2f}"),
        ("eta", None if state.eta is None else figures.duration(state.eta)),
        ("elapsed", figures.duration(elapsed(state, now))),
        ("tok/s", figures.rate(state.value("tokens_per_second")) if state.value("tokens_per_second") is not None else None),
    ):
        if value is not None and _length(pieces) + len(label) + len(value) + 3 <= width:
            pieces += [(f"  {label} ", "dim"), (value, "")]
    used = _length(pieces)
    if share is not None and width - used >= 14:
        cells = min(40, width - used - 3)
        full = round(cells * min(1.0, share))
        pieces += [("  ", ""), ("━" * full, "one"), ("─" * (cells - full), "rest")]
    return [tuple(pieces), newest_line(state, width)]


def newest_line(state: RunState, width: int) -> Line:
    """The newest value of the metrics people look at, as many as fit."""
    pieces: list[Piece] = []
    for name in NEWEST:
        value = state.value(name)
        if value is None:
            continue
        word, figure = SHORT.get(name, name), figures.number(value)
        if _length(pieces) + len(word) + len(figure) + 3 <= width:
            pieces += [("  " if pieces else "", ""), (f"{word} ", "dim"), (figure, "" if isfinite(value) else "error")]
    return tuple(pieces) or ((state.why or "no step yet", "dim"),)


def elapsed(state: RunState, now: float) -> float | None:
    """Seconds the run has taken: up to its last record when it is over, up to `now` while it lives."""
    if state.first_time is None:
        return None
    end = state.last_time if state.over or state.last_time is None else max(now, state.last_time)
    return None if end is None else end - state.first_time


def banner(state: RunState, problem: str = "") -> tuple[str, str]:
    """(sentence, role) about what the user has to know, ("", "") when all is well. `problem`: why the journal cannot be read."""
    if state.state == "failed":
        crash = state.crash
        hint = (crash.hint if crash else "") or state.why
        if not hint and crash:
            how = f"signal {crash.signal}" if crash.signal else f"exit code {crash.returncode}"
            hint = f"The trainer ended with {how} ({crash.kind})."
        return (
            f"✗ {hint[:1].upper() + hint[1:] or 'The run failed without saying why.'} (e: events and traceback, t: log, F5: go on)",
            "error",
        )
    if state.state == "lost":
        return f"✗ The run is lost: {state.why}.{_checkpoint_words(state)}", "error"
    if state.state == "hung":
        return f"! The trainer hangs: {state.why or 'no step for a long time'}. F1 has Dump stacks and Kill the run.", "error"
    if alarm := state.alarm:
        proposal = f" Proposed: {command_words(alarm.op, alarm.args)} ({key_of('run.alarm')} does it)." if alarm.op else ""
        return f"! {alarm.place}: {alarm.text}{'' if alarm.text.endswith('.') else '.'}{proposal}", "error"
    if state.not_finite is not None and not state.over:
        name, step = state.not_finite
        return (
            f"! {name} is not a number since step {step}: the run learns nothing more. Shift+F5 stops it; try a lower learning_rate.",
            "error",
        )
    if paused := paused_words(state):
        return paused, "warn"
    if state.attempt > 1 and state.state in ("starting", "loading") and state.why:
        return f"↻ {state.why}", "warn"
    if problem:
        return f"! {problem}", "warn"
    return "", ""


def summary(state: RunState) -> str:
    """A few words for the status bar: "▶ 412/1400 loss 0.61 27k tok/s"."""
    parts = [f"{state_sign(state.state)[0]} {state.state if state.state not in ('running',) else ''}".strip()]
    if state.step is not None:
        parts.append(f"{state.step}/{state.max_steps}" if state.max_steps else f"step {state.step}")
    loss, speed = state.value("loss"), state.value("tokens_per_second")
    if loss is not None:
        parts.append(f"loss {figures.number(loss)}")
    if speed is not None and not state.over:
        parts.append(f"{figures.rate(speed)} tok/s")
    return " ".join(parts)


def _length(pieces: list[Piece]) -> int:
    return sum(len(text) for text, _ in pieces)


def _checkpoint_words(state: RunState) -> str:
    steps = [event.step for event in state.events if event.kind == "checkpoint" and event.step is not None]
    return f" Its last checkpoint is at step {steps[-1]}." if steps else " It had not saved a checkpoint."
