"""Going on with a run that has ended: what is asked first, and the thread that does it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tuitune.errors import UserError
from tuitune.hub import launch
from tuitune.runs.directory import RunDirectory
from tuitune.runs.listing import RunSummary, summarize
from tuitune.runs.manifest import read_manifest, without_hub
from tuitune.runs.resume import starting_point
from tuitune.text import printable
from tuitune.workbench.parts.confirm import Choice, Confirm
from tuitune.workbench.views.run.checkpoint_picker import CheckpointPicker, Kept, kept_checkpoints
from tuitune.workbench.views.view import View

ENDS = {"failed": "failed", "stopped": "was stopped", "lost": "was lost"}


@dataclass(frozen=True)
class Ended:
    """A run as it stands on the disk. `checkpoint`: the step that it goes on from, at first of its newest whole checkpoint. `without_hub`:
    its trainer lives on, and nobody looks after it. `kept`: all whole checkpoints of a training, the latest first."""

    run: RunSummary
    checkpoint: int | None
    without_hub: bool = False
    kept: tuple[Kept, ...] = ()


def look(path: Path) -> Ended | None:
    """The run and its newest whole checkpoint; None when the folder is no run. UserError when it cannot be read. For a thread."""
    run = RunDirectory(path)
    summary = summarize(run)
    if summary is None:
        return None
    if summary.state == "unreadable":
        return Ended(summary, None)
    alone = without_hub(read_manifest(run))
    kept = () if alone or summary.alive or summary.kind != "train" else tuple(kept_checkpoints(run))
    return Ended(summary, starting_point(run).step or None, alone, kept)


def refusal(ended: Ended) -> str:
    """Why there is nothing to resume; "" when there is."""
    run = ended.run
    if run.alive and not ended.without_hub:
        return f"{printable(run.name)} is {run.state}: it goes on by itself."
    if run.state == "unreadable":
        return printable(run.why or f"{run.id} cannot be read.", limit=300)
    if run.kind == "chat":
        return "A chat's turns are gone with its process: start another one."
    if run.kind != "train" and run.state == "done":
        return f"This {run.kind} is done: start another one."
    if run.state == "done" and run.step is not None and run.max_steps is not None and run.step >= run.max_steps:
        return f"{printable(run.name)} is done: all {run.max_steps} steps are trained."
    return ""


def words(ended: Ended) -> list[str]:
    """What resuming does, in sentences."""
    run, step = ended.run, ended.checkpoint
    if ended.without_hub:
        return ["Its hub was killed and its trainer trains on: it gets another hub, which looks after it."]
    of = f" of {run.max_steps}" if run.max_steps else ""
    why = f": {printable(run.why, limit=200)}" if run.why else ""
    if run.kind != "train":
        return [f"It {ENDS.get(run.state, 'ended')}{why}", "It starts again, from its beginning."]
    lines = [f"It {ENDS.get(run.state, 'ended')} at step {run.step or 0}{of}{why}"]
    if step is None:
        return [*lines, "It has no whole checkpoint, so it starts from the beginning."]
    again = f" Steps {step + 1} to {run.step} are trained again." if run.step and run.step > step else ""
    goes_on = f"It goes on from the checkpoint of step {step}: the same data order and random state.{again}"
    return [*lines, goes_on, *_set_aside(ended.kept, step)]


def _set_aside(kept: Sequence[Kept], step: int) -> list[str]:
    """What becomes of the checkpoints that are later than the one chosen."""
    later = ", ".join(str(one.step) for one in reversed(kept) if one.step > step)
    return [f"Later checkpoints (of steps {later}) are kept in checkpoints/aside."] if later else []


async def resume_ended(view: View, path: Path) -> bool:
    """Ask, then have `tuitune resume` done in a thread; whether the run was resumed. What is refused is said."""
    try:
        ended = await asyncio.to_thread(look, path)
    except UserError as error:
        view.notify(printable(str(error), newlines=True), title="Not resumed", severity="error", markup=False)
        return False
    refused = f"{printable(path.name)} is no run any more." if ended is None else refusal(ended)
    if ended is None or refused:
        view.notify(refused, severity="warning", markup=False)
        return False
    start = await _asked(view, ended)
    if start is None:
        return False
    try:
        resumed = await asyncio.to_thread(lambda: launch.resume_run(RunDirectory(path), start or None))
    except UserError as error:
        view.notify(printable(str(error), newlines=True), title="Not resumed", severity="error", markup=False)
        return False
    view.notify(printable(resumed.words), markup=False)
    return True


async def _asked(view: View, ended: Ended) -> str | None:
    """The question, with a way to another checkpoint where there are several: the name of the one to go on from, "" for the newest whole
    one, None when it shall not go on."""
    name, start = printable(ended.run.id), ""
    choices = [Choice("y", "Resume", "yes")]
    if len(ended.kept) > 1:
        choices.append(Choice("c", "From another checkpoint…", "choose"))
    while (answer := await view.app.push_screen_wait(Confirm(f"Resume {name}?", words(ended), choices))) == "choose":
        chosen = await view.app.push_screen_wait(CheckpointPicker(ended.kept))
        if chosen is not None:
            start = chosen
            ended = replace(ended, checkpoint=next(one.step for one in ended.kept if one.name == chosen))
    return start if answer == "yes" else None
