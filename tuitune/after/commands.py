"""The commands of the terminal that start jobs: `tuitune chat` and its kin. Nothing heavy is imported: the work is in the job's process."""

from contextlib import nullcontext
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tuitune.console import RunLines, goes_on
from tuitune.errors import UserError
from tuitune.hub.follow import follow as records_of
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import read_manifest
from tuitune.runs.results import result_of
from tuitune.text import printable


def follow(run: RunDirectory, as_json: bool) -> dict[str, Any]:
    """Wait for the end of a job and return its result ({} when it left none); what it does meanwhile goes to stdout, with `as_json` to
    nobody. UserError with the reason when it fails; Ctrl-C leaves it alone, which is said with exit code 130.
    """
    console, lines = Console(highlight=False), RunLines()
    bar = nullcontext(None) if as_json or not console.is_terminal else _bar(console)
    failed: str | None = None
    try:
        with bar as progress:
            task = progress.add_task(printable(run.name), total=None) if progress else None
            for record in records_of(run):
                if record.get("ev") == "state":
                    failed = str(record.get("why") or "it said nothing") if record.get("s") in ("failed", "lost") else None
                if progress and task is not None and record.get("ev") == "progress":
                    what = printable(str(record.get("what")), limit=60)
                    progress.update(task, description=what, completed=record.get("done") or 0, total=record.get("total"))
                for line in [] if as_json else lines.read(record):
                    console.print(line, markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        raise UserError(goes_on(run), exit_code=130) from None
    if failed is not None:
        raise UserError(f"{run.name} failed: {failed}")
    return result_of(run, read_manifest(run)) or {}


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)
