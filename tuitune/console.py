"""A run's events on the plain command line: what `train` and `attach` print, and the table of `runs`."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import localtime, strftime
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tuitune.bus.client import HubClient
from tuitune.bus.envelope import as_number, encode
from tuitune.errors import UserError
from tuitune.hub.follow import follow
from tuitune.runs.compare import Comparison, value_text
from tuitune.runs.directory import RunDirectory
from tuitune.runs.listing import RunSummary, reference
from tuitune.runs.manifest import read_manifest, without_hub
from tuitune.runs.slow import report as slow
from tuitune.runs.slow.findings import WhySlow, percent
from tuitune.text import escaped_json, printable

GIB = 1 << 30


def watch(
    run: RunDirectory, *, as_json: bool, plain: bool, on_interrupt: Literal["detach", "stop"], interrupted: bool = False, since: float = 0.0
) -> int:
    """Print the run's records until it ends; 0 when it ended well or was left running, 1 when it failed.

    Ctrl-C leaves the run alone and says how to come back ("detach"), or asks it to save and stop ("stop"; a second one detaches).
    `interrupted`: one came already. `since`: unix seconds; what is older is not printed. Why a run failed goes to stderr.
    """
    if as_json:
        say_beside = lambda text: print(text, file=sys.stderr)  # noqa: E731, T201
        return _follow(run, _since(since, _json_line), on_interrupt, say_beside, interrupted)
    console = Console(highlight=False, no_color=plain or None)
    lines = RunLines()

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)  # a wrapped hint could not be copied

    def print_lines(record: dict[str, Any]) -> None:
        for line in lines.read(record):
            say(line)

    if without_hub(read_manifest(run)):
        say(f"the hub of {run.name} was killed, its trainer goes on: tuitune resume {reference(run, Path.cwd())} gives it another")
    if plain or not console.is_terminal:
        return _follow(run, _since(since, print_lines), on_interrupt, say, interrupted)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True
    ) as progress:
        task = progress.add_task(run.name, total=None)

        def show(record: dict[str, Any]) -> None:
            print_lines(record)
            if record.get("ev") == "metrics":
                progress.update(task, completed=record.get("step") or 0, total=record.get("max_steps"))

        return _follow(run, _since(since, show), on_interrupt, say, interrupted)


def _since(time: float, show: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    return lambda record: show(record) if record.get("t", 0) >= time else None


def _follow(
    run: RunDirectory, show: Callable[[dict[str, Any]], object], on_interrupt: str, say: Callable[[str], object], interrupted: bool
) -> int:
    shown: dict[str, int] = {}
    try:
        if interrupted:
            raise KeyboardInterrupt
        return _show_all(run, show, shown)
    except KeyboardInterrupt:
        if on_interrupt == "stop":
            try:  # the second Ctrl-C may come at any moment from here on
                say(_stop(run))
                return _show_all(run, show, shown)
            except KeyboardInterrupt:
                pass
        say(goes_on(run))
        return 0


def _show_all(run: RunDirectory, show: Callable[[dict[str, Any]], object], shown: dict[str, int]) -> int:
    """Show the run's records to its end; the exit code. `shown`: per journal file the number of the last record shown, which is kept up
    to date, so that who begins again goes on where an interrupt came."""
    failed: str | None = None
    for record in follow(run):
        source, number = str(record.get("src")), int(record.get("n", 0))
        if record.get("ev") == "state":
            failed = str(record.get("why") or "it said nothing") if record.get("s") in ("failed", "lost") else None
        if number > shown.get(source, -1):
            shown[source] = number
            show(record)
    if failed is None:
        return 0
    print(f"tuitune: {run.name} failed: {printable(failed)}", file=sys.stderr)  # noqa: T201
    return 1


@contextmanager
def interrupts_held() -> Iterator[list[int]]:
    """Ctrl-C in the block is put into the list and does nothing else."""
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    try:
        yield held
    finally:
        signal.signal(signal.SIGINT, before)


def goes_on(run: RunDirectory) -> str:
    """What to say when a run is left alone: how to come back to it from here, and how to stop it."""
    name = reference(run, Path.cwd())
    return f"{run.name} goes on without you. Come back: tuitune attach {name}   Stop it: tuitune send {name} stop"


def _stop(run: RunDirectory) -> str:
    try:
        reply = HubClient(run.path).send("stop", {"save": True})
    except UserError as error:
        return str(error)
    return f"stop {reply['s']}: the run saves and ends at the next step; Ctrl-C again leaves it alone"


def _json_line(record: dict[str, Any]) -> None:
    sys.stdout.write(escaped_json(encode(record).decode()))
    sys.stdout.flush()


class RunLines:
    """Turns journal records into the lines a person reads; keeps nothing but what the next line needs."""

    def __init__(self) -> None:
        self._state = ""

    def read(self, record: dict[str, Any]) -> list[str]:
        """The lines for one record; most records (heartbeats, GPU samples) have none."""
        match record.get("ev"):
            case "state" if record.get("s") != self._state:
                self._state = str(record.get("s"))
                why = "" if self._state in ("failed", "lost") else printable(str(record.get("why") or ""))  # that is told on stderr
                return [f"{_clock(record)} {self._state}" + (f": {why}" if why else "")]
            case "warning":
                return [f"{_clock(record)} warning: {printable(str(record.get('text')))}"]
            case "metrics":
                return [f"{_clock(record)} {_metrics(record)}"]
            case "eval":
                metrics = record.get("metrics") or {}
                loss = as_number(metrics.get("eval_loss"))
                return [f"{_clock(record)} evaluated at step {record.get('step')}: eval loss {_figure(loss)}"]
            case "checkpoint" if not record.get("complete"):
                return [f"{_clock(record)} checkpoint of step {record.get('step')} not saved: {printable(str(record.get('error')))}"]
            case "checkpoint":
                size = as_number(record.get("bytes")) or 0
                return [f"{_clock(record)} saved {printable(str(record.get('path')))} ({size / 2**20:.1f} MiB)"]
        return []


def _metrics(record: dict[str, Any]) -> str:
    parts = [f"step {record.get('step')}/{record.get('max_steps')}", f"loss {_figure(as_number(record.get('loss')))}"]
    rate = as_number(record.get("learning_rate"))
    if rate is not None:
        parts.append(f"lr {rate:.2e}")
    speed = as_number(record.get("tokens_per_second"))
    if speed is not None:
        parts.append(f"{speed:,.0f} tokens/s")
    memory = record.get("mem")
    reserved = as_number(memory.get("reserved")) if isinstance(memory, dict) else None
    if reserved is not None:
        parts.append(f"{reserved / GIB:.1f} GiB reserved")
    return "  ".join(parts)


def _figure(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"


def _clock(record: dict[str, Any]) -> str:
    return strftime("%H:%M:%S", localtime(record.get("t", 0)))


def print_runs(found: list[RunSummary], root: Path) -> None:
    """The table of `tuitune runs`."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)  # a pipe has no width to fit into
    if not found:
        console.print(f"No runs in {root}. Start one: tuitune train RECIPE", markup=False)
        return
    table = Table(box=None, pad_edge=False)
    jobs = any(run.kind != "train" for run in found)
    kind = [("kind", "left")] if jobs else []
    for title, justify in (("run", "left"), *kind, ("state", "left"), ("step", "right"), ("loss", "right"), ("started", "left")):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    for run in found:
        steps = f"{run.step or 0}/{run.max_steps}" if run.max_steps else str(run.step or "")
        started = strftime("%Y-%m-%d %H:%M", localtime(run.created)) if run.created else ""
        table.add_row(
            printable(run.id),
            *([printable(run.kind)] if jobs else []),
            run.state,
            steps,
            _figure(run.loss) if run.loss is not None else "",
            started,
        )
    console.print(table)


def print_why_slow(why: WhySlow, run: RunDirectory, *, living: bool) -> None:
    """Below the line of `tuitune runs RUN`: where its time goes and what to change, dearest first."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    console.print()
    for sentence in slow.sentences(why):
        console.print(printable(sentence), markup=False, soft_wrap=True)
    command = f"tuitune send {reference(run, Path.cwd())} " if living else ""
    for finding in why.findings:
        cost = "" if finding.cost is None else percent(finding.cost)
        console.print(f"{cost:>5}  {printable(finding.text)}", markup=False, soft_wrap=True)
        for text in slow.advice(finding, command):
            console.print(f"       {printable(text)}", markup=False, soft_wrap=True)


def print_comparison(comparison: Comparison) -> None:
    """The two tables of `tuitune compare`: how far each run got, and the values in which they differ."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    table = Table(box=None, pad_edge=False)
    for title, justify in (("", "left"), ("run", "left"), ("state", "left"), ("step", "right"), ("loss", "right"), ("best eval", "left")):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    table.add_column("tokens/s", justify="right")
    letters = [chr(ord("A") + index) if index < 26 else str(index + 1) for index in range(len(comparison.runs))]
    for letter, one in zip(letters, comparison.runs):
        loss, best = one.curves.get("loss"), one.best_eval
        steps = f"{one.run.step or 0}/{one.run.max_steps}" if one.run.max_steps else str(one.run.step or "")
        eval_loss = f"{best[0]:.4g} at step {best[1]}" if best else ""
        speed = f"{one.speed:,.0f}" if one.speed is not None else ""
        table.add_row(letter, printable(one.run.id), one.run.state, steps, _figure(loss.last) if loss else "", eval_loss, speed)
    console.print(table)
    console.print()
    if not comparison.differences:
        console.print("They do not differ in recipe, effective values, data or versions.", markup=False)
    else:
        table = Table(box=None, pad_edge=False)
        for title in ("from", "value", *letters):
            table.add_column(title)
        for difference in comparison.differences:
            values = [Text(printable(value_text(value), limit=200)) for value in difference.values]
            table.add_row(difference.origin, printable(difference.key), *values)
        console.print(table)
    for note in comparison.notes:
        console.print(printable(note), markup=False)
