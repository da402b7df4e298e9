"""The commands of the terminal that start jobs: `tuitune chat` and its kin. The work is in the job's
process. Imports are inside the functions: the command line builds its table from this module."""

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuitune.errors import UserError
from tuitune.printing import say
from tuitune.text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from tuitune.runs.directory import RunDirectory


def chat(args: argparse.Namespace) -> int:
    """`tuitune chat RUN|MODEL`: talk with a model, or with two side by side; with piped input each line is a question of its own."""
    from tuitune.after.chat_params import Params
    from tuitune.after.chat_session import ChatSession
    from tuitune.after.chat_start import start_chat
    from tuitune.after.chat_terminal import answer_all, converse

    given = {name: value for name in Params().as_dict() if (value := getattr(args, name)) is not None}
    params = Params().with_values(given)
    piped = args.whole or args.json or not sys.stdin.isatty()
    questions = ([sys.stdin.read()] if args.whole else [line.rstrip("\n") for line in sys.stdin]) if piped else []
    questions = [text for text in questions if text.strip()]
    if piped and not questions:
        raise UserError("nothing to ask came from stdin", exit_code=2)
    run = start_chat(
        args.model, Path.cwd(), against=args.against, system=args.system, four_bit=args.four_bit, cpu=args.cpu, idle_minutes=args.idle
    )
    session = ChatSession(run)
    try:
        session.wait_ready(lambda text: say(f"{printable(text)} …"))
        if piped:
            return answer_all(session, params, iter(questions), args.json)
        converse(session, params, Path.cwd())
        return 0
    finally:
        session.end()


def evaluate(args: argparse.Namespace) -> int:
    """`tuitune eval RUN|MODEL`: what it makes of rows it has not learnt from, beside its base; forgetting, benchmarks, a report."""
    from tuitune.after.evaluation_command import evaluate as follow_evaluation

    return follow_evaluation(args)


def follow(run: "RunDirectory", as_json: bool) -> dict[str, Any]:
    """Wait for the end of a job and return its result ({} when it left none); what it does meanwhile goes to stdout, with `as_json` to
    nobody. UserError with the reason when it fails; Ctrl-C leaves it alone, which is said with exit code 130.
    """
    from rich.console import Console

    from tuitune.console import RunLines, goes_on
    from tuitune.hub.follow import follow as records_of
    from tuitune.runs.manifest import read_manifest
    from tuitune.runs.results import result_of

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


def _bar(console: "Console") -> "Progress":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)
