"""A sweep's runs as plain data: their values, how good each is, which is stopped early, the table. Imports neither hub nor torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

from tuitune.errors import UserError
from tuitune.files import write_atomically
from tuitune.runs.curves import Curve
from tuitune.runs.directory import RunDirectory
from tuitune.text import printable

TABLE, PAGE = "sweep.json", "sweep.md"  # in the sweep's run directory
NOISY = 10  # logs of the training over which a metric that no evaluation made is averaged
LOW = ("loss", "perplexity", "kl", "error")
HIGH = ("accuracy", "accuracies", "margin", "margins", "reward", "exact_match")
Goal = Literal["min", "max"]


@dataclass
class Trial:
    """One run of a sweep. `values`: recipe key → value; `run`: its id, None before it starts; `value` at `step`: the metric of the weights
    that it leaves (so far: of its last evaluation), by which runs are ranked; `best` at `best_step`: the best evaluation on its way;
    `left`: the step of the weights that it left, None until it has; `why`: of its state, by its manifest; `verdict`: why the sweep counts
    it as over though it has not trained to its end."""

    number: int
    values: dict[str, Any]
    run: str | None = None
    state: str = "waiting"
    value: float | None = None
    step: int | None = None
    best: float | None = None
    best_step: int | None = None
    left: int | None = None
    seconds: float | None = None
    verdict: str | None = None
    why: str | None = None
    curve: Curve = field(default_factory=Curve, repr=False)

    def look(self, metric: str, goal: Goal) -> None:
        """Take the value of what it leaves from the curve: the last evaluation at or before that step, of a training's logs the average
        of the last ten up to there. The best evaluation beside it: its weights may be in a checkpoint, and are not the result."""
        pairs = [(value, int(step)) for step, value in zip(self.curve.steps, self.curve.values) if isfinite(value)]
        until = [pair for pair in pairs if self.left is None or pair[1] <= self.left]
        self.value, self.step = until[-1] if until else (None, None)
        if metric.startswith("eval_"):
            self.best, self.best_step = (min if goal == "min" else max)(pairs, key=lambda pair: pair[0]) if pairs else (None, None)
        elif until:
            self.value = fmean(value for value, _ in until[-NOISY:])

    def best_until(self, step: float, goal: Goal) -> float | None:
        """Its best value at or before a step; None when it has none."""
        values = [value for at, value in zip(self.curve.steps, self.curve.values) if at <= step and isfinite(value)]
        return (min if goal == "min" else max)(values) if values else None


def goal_of(metric: str, written: str | None = None) -> Goal:
    """Whether less of it is better. UserError when neither its name nor somebody says so."""
    if written in ("min", "max"):
        return written  # type: ignore[return-value]
    parts = metric.replace("/", "_").lower().split("_")
    if any(part in LOW for part in parts):
        return "min"
    if any(part in HIGH for part in parts):
        return "max"
    raise UserError(f"whether more or less of {printable(metric)} is better is not known: say --goal min or --goal max", exit_code=2)


def median_rule(text: str | None) -> int | None:
    """How many values a run may have before it is compared: "median" or "median:K"; None for no rule."""
    if text in (None, "none"):
        return None
    name, _, count = str(text).partition(":")
    if name != "median" or (count and not (count.isdecimal() and int(count) > 0)):
        raise UserError(f"--stop-rule takes none, median or median:K, not {printable(str(text))}", exit_code=2)
    return int(count or 3)


def worse_than_median(trial: Trial, others: Sequence[Trial], after: int, goal: Goal) -> str | None:
    """Why a run is stopped early: with `after` values of its metric, its best one is worse than the median of what the others (two at
    least) had as their best at the same step. None to let it go on."""
    if len(trial.curve.steps) < after:
        return None
    step = trial.curve.steps[-1]
    mine = trial.best_until(step, goal)
    theirs = [best for other in others if (best := other.best_until(step, goal)) is not None]
    if mine is None or len(theirs) < 2:
        return None
    middle = median(theirs)
    worse = mine > middle if goal == "min" else mine < middle
    return f"stopped at step {step:.0f}: its best, {mine:.4g}, is worse than the others' median there, {middle:.4g}" if worse else None


def best_of(trials: Sequence[Trial], goal: Goal) -> Trial | None:
    """The best run of those that have a value and were not lost on the way: a failed run, or one without numbers, leaves no model."""
    rated = [trial for trial in trials if trial.value is not None and trial.state not in ("failed", "lost") and trial.verdict is None]
    return (min if goal == "min" else max)(rated, key=lambda trial: trial.value or 0.0) if rated else None


def document(trials: Sequence[Trial], metric: str, goal: Goal, rule: str | None) -> dict[str, Any]:
    """The table as plain data: rows in the order of the grid."""
    best = best_of(trials, goal)
    rows = [{name: value for name, value in asdict(trial).items() if name != "curve"} for trial in trials]
    return {
        "schema": 1,
        "metric": metric,
        "goal": goal,
        "rule": rule or "none",
        "trials": rows,
        "best": best.number if best else None,
    }


def page(table: Mapping[str, Any]) -> str:
    """The table in Markdown, the best run first."""
    trials = sorted(
        table["trials"],
        key=lambda row: (row["value"] is None, (row["value"] or 0.0) * (1 if table["goal"] == "min" else -1), row["number"]),
    )
    keys = list(trials[0]["values"]) if trials else []
    titles = ["run", *keys, table["metric"], "at step", "state", "minutes"]
    better = f"{'Less' if table['goal'] == 'min' else 'More'} of {table['metric']} is better; it is of the weights that a run leaves"
    keeps = "its last ones, or the best checkpoint's with `training.load_best_model_at_end`"
    lines = [f"# Sweep over {', '.join(keys)}", "", f"{better}: {keeps}.", ""]
    lines += [_row(titles), _row(["---"] * len(titles))]
    for row in trials:
        mark = " **best**" if row["number"] == table["best"] else ""
        value = "" if row["value"] is None else f"{row['value']:.5g}"
        minutes = "" if row["seconds"] is None else f"{row['seconds'] / 60:.1f}"
        cells = [
            f"{row['run'] or '-'}{mark}",
            *(str(row["values"][key]) for key in keys),
            value,
            str(row["step"] or ""),
            row["state"],
            minutes,
        ]
        lines.append(_row(cells))
    notes = [f"- {row['run']}: {printable(row['verdict'] or row['why'])}" for row in trials if row["verdict"] or row["state"] == "failed"]
    notes += [f"- {row['run']}: {apart}" for row in trials if (apart := _apart(row))]
    return "\n".join(lines + (["", *notes] if notes else [])) + "\n"


def _apart(row: Mapping[str, Any]) -> str:
    """Where the figure of a run is of other weights than it leaves, or it had better ones on the way; "" for neither."""
    parts = []
    if row.get("left") is not None and row["step"] is not None and row["step"] != row["left"]:
        parts.append(f"its figure is of step {row['step']}, what it leaves is of step {row['left']}")
    if row.get("best") is not None and row["best"] != row["value"]:
        parts.append(f"its best evaluation was {row['best']:.5g} at step {row['best_step']}")
    return "; ".join(parts)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(printable(cell, limit=120).replace("|", "\\|") for cell in cells) + " |"


def write_table(run: RunDirectory, table: Mapping[str, Any]) -> list[Path]:
    """Into the sweep's run directory, as JSON and as Markdown."""
    files = [run.path / TABLE, run.path / PAGE]
    write_atomically(files[0], json.dumps(table, indent=1) + "\n")
    write_atomically(files[1], page(table))
    return files


def read_table(run: RunDirectory) -> dict[str, Any]:
    """What write_table wrote. UserError when there is none."""
    try:
        found: dict[str, Any] = json.loads((run.path / TABLE).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{run.name} has no table yet ({type(error).__name__}); attach to it, or resume it: tuitune resume {run.name}"
        ) from error
    return found
