"""Merge, export and push from the workbench: what will happen, a question, a job with a hub of its own, and a word when it has ended.

Folders are read and jobs started in threads; the jobs show in the runs table like everything that runs.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import ENDED, read_manifest
from tuitune.text import printable
from tuitune.workbench.parts.confirm import Choice, Confirm

if TYPE_CHECKING:
    from tuitune.after.push_plan import PushPlan
    from tuitune.workbench.actions import Actions

PERIOD = 1.0  # seconds between looks at the job
FILES = 8  # lines of a push's files in the question
_WHOLE: dict[str, Any] = {"base": None, "no_check": False, "cpu": False, "out": None}


def run_of(app: Actions) -> Path | None:
    """The run in front, or the one under the runs table's cursor; None when there is none."""
    view = app.editor.active
    chosen = getattr(view, "current", None) if view is not None and view.kind == "runs" else view
    path = getattr(chosen, "path", None)
    return path if isinstance(path, Path) else None


async def merge(app: Actions, run: Path) -> None:
    """Ask, then merge the run's adapter into its base."""
    args = argparse.Namespace(**_WHOLE, dtype=None, max_shard_size="5GB")
    words = await app.in_thread(lambda: _merge_words(run, app.root), failed="Not merged")
    if words is None:
        return
    question = Confirm(f"Merge {printable(run.name)}?", words, [Choice("m", "Merge", "yes")])
    if await app.push_screen_wait(question):
        await _follow(app, "Merge", lambda: _start("start_merge", run, args, app.root))


async def export(app: Actions, run: Path) -> None:
    """Ask for the form, then export the run's model."""
    lines = ["The adapter is merged first, unless it is already; then what is written is compared with the model."]
    choices = [Choice("h", "Folder (hf)", "hf"), Choice("g", "GGUF, Q8_0", "gguf")]
    to = await app.push_screen_wait(Confirm(f"Export {printable(run.name)}?", lines, choices))
    if to:
        args = argparse.Namespace(**_WHOLE, to=to, quant="Q8_0", snippets=True, converter=None)
        await _follow(app, "Export", lambda: _start("start_export", run, args, app.root))


async def push(app: Actions, run: Path) -> None:
    """Ask for the repository, show every file that would go, then send them."""
    from tuitune.workbench.parts.ask import Ask

    repo = await app.push_screen_wait(Ask("Push to which repository?", "your-name/model; it is made private if it is missing"))
    if not repo:
        return
    args = argparse.Namespace(repo=repo, merged=False, public=False, base=None, message=None)
    plan = await app.in_thread(lambda: _push_plan(run, args, app.root), failed="Not pushed")
    if plan is None:
        return
    if await app.push_screen_wait(Confirm("Push to the Hub?", push_words(plan), [Choice("p", "Push (private)", "yes")])):
        await _follow(app, "Push", lambda: _start_push(run, args, app.root))


def push_words(plan: PushPlan) -> list[str]:
    """The files of a push with their sizes, cut to what a question can show."""
    from tuitune.after.publish_commands import shown

    head, *named = shown(plan, origins=False).splitlines()[: 1 + len(plan.files)]
    more = [f"  and {len(named) - FILES} more"] if len(named) > FILES else []
    return [head, *named[:FILES], *more, "tuitune push --dry-run shows where each comes from."]


async def _follow(app: Actions, what: str, start: Any) -> None:
    """Start a job in a thread and tell its end; the run goes on whatever becomes of this."""
    job: RunDirectory | None = await app.in_thread(start, failed=f"{what}: not started")
    if job is None:
        return
    app.notify(f"{job.name} has started; the runs table shows it.", title=what)
    app.watch_folder()
    while (manifest := await app.in_thread(lambda: read_manifest(job), failed=what)) is not None:
        if (state := manifest.living_state()) in ENDED:
            text = await app.in_thread(lambda: ending(job), failed=what) if state == "done" else manifest.why or f"{job.name}: {state}"
            app.notify(text or f"{job.name} is done", title=what, severity="information" if state == "done" else "error", timeout=15)
            return
        await asyncio.sleep(PERIOD)


def ending(job: RunDirectory) -> str:
    """What a job has left, in a sentence. For a thread."""
    from tuitune.runs.results import result_of

    result = result_of(job, read_manifest(job)) or {}
    check = (result.get("check") or {}).get("words")
    where = result.get("url") or result.get("path") or job.name
    return f"{where}: {check}" if check else str(where)


def _merge_words(run: Path, workspace: Path) -> list[str]:
    from tuitune.after.merge_plan import plan_merge
    from tuitune.after.source import find_source

    source = find_source(str(run), workspace)
    plan = plan_merge(source)
    return [printable(source.words), printable(plan.words()), "Then 20 prompts are asked of both: logits and greedy text must agree."]


def _start(name: str, run: Path, args: argparse.Namespace, workspace: Path) -> RunDirectory:
    from tuitune.after import publish_commands
    from tuitune.after.source import find_source

    started: RunDirectory = getattr(publish_commands, name)(find_source(str(run), workspace), args, workspace)
    return started


def _push_plan(run: Path, args: argparse.Namespace, workspace: Path) -> PushPlan:
    from tuitune.after.publish_commands import push_plan, subject_of

    folder, _, facts = subject_of(str(run), merged=args.merged, workspace=workspace)
    return push_plan(folder, facts, args)


def _start_push(run: Path, args: argparse.Namespace, workspace: Path) -> RunDirectory:
    from tuitune.after.publish_commands import start_push, subject_of

    folder, source, _ = subject_of(str(run), merged=args.merged, workspace=workspace)
    return start_push(folder, source, args, workspace)
