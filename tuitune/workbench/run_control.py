"""Starting, stopping and finding runs from the workbench: the questions asked first, and the threads that do it.

A run belongs to its hub: nothing here keeps it alive, and leaving the workbench does not touch it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuitune.recipe.devices import wants_cpu
from tuitune.text import printable
from tuitune.workbench import check_control
from tuitune.workbench.parts.confirm import Choice, Confirm
from tuitune.workbench.views.view import View

if TYPE_CHECKING:
    from tuitune.preflight.gate import Passed
    from tuitune.runs.listing import RunSummary
    from tuitune.workbench.actions import Actions
    from tuitune.workbench.gpu_feed import GpuNow
    from tuitune.workbench.problem_actions import ProblemActions


async def start(app: ProblemActions, view: View, *, force: bool = False) -> None:
    """F5: say in one line what will happen, and on Enter save the recipe, check it, and hand it to a hub when the gate lets it pass.

    force: the gate lets errors pass, after a question.
    """
    view.flush()
    errors = [problem for problem in view.problems if problem.severity == "error"]
    if errors:
        count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        app.notify(f"{view.title} has {count}: put right first (F8 goes there).", title="Not started", severity="error")
        app.show_panel("problems")
        view.go_to(errors[0].line, errors[0].column)
        view.focus_content()
        return
    text = view.draft_text()
    data = await app.in_thread(lambda: _read(view.path, text), failed="Not started")
    if data is None:
        return
    name = printable(str(data.get("name") or view.path.stem))
    lines = describe(data, app.gpu_feed.now if app.gpu_feed else None)
    if view.dirty:
        lines.append(f"Saves {view.title} first.")
    if app.seen is not None and app.seen.living:
        lines.append(f"Also running: {', '.join(printable(run.name) for run in app.seen.living[:3])}.")
    answer = await app.push_screen_wait(Confirm(f"Train {name}?", lines, [Choice("y", "Start", "start")]))
    if answer != "start" or (view.dirty and not await view.save()):
        return
    leave = await check_control.pass_gate(app, view, force=force)
    if leave is None:
        return
    run = await app.in_thread(lambda: _launch(view.path, app.root, leave), failed="Not started")
    if run is not None:
        app.notify(f"{printable(run.name)} has started.", title="Run")
        app.watch_folder()
        await app.open_view("run", run)


def _read(path: Path, text: str | None) -> dict[str, Any]:
    from tuitune.recipe.document import parse

    return parse(path.read_text(encoding="utf-8") if text is None else text, path).data


def _launch(path: Path, workspace: Path, leave: Passed) -> Path:
    """Start the saved recipe; UserError when it is another than the one that was checked or the hub does not come up."""
    from tuitune.hub.launch import launch_recipe

    return launch_recipe(path, workspace, checked=leave.checked, overridden=leave.overridden).path


def describe(data: dict[str, Any], gpus: GpuNow | None) -> list[str]:
    """What will be trained, on what, where: three lines of printable text. `data` may be any YAML."""
    model, dataset = _section(data, "model").get("name_or_path", "?"), _section(data, "dataset").get("train")
    sources = dataset if isinstance(dataset, list) else [dataset] if dataset else []
    paths = [str(source.get("path", "?")) if isinstance(source, dict) else str(source) for source in sources]
    cpu = wants_cpu(_section(data, "launch"), _section(data, "training"))
    rows = ", ".join(paths[:2]) + (f" and {len(paths) - 2} more" if len(paths) > 2 else "")
    return [printable(f"{method(data)} of {model}"), printable(f"on {rows or 'no data'}"), where(gpus, cpu)]


def method(data: dict[str, Any]) -> str:
    """ "QLoRA sft", "LoRA sft", "Full sft" … as the recipe's sections say."""
    quantization = _section(data, "quantization")
    if not data.get("peft"):
        name = "Full"
    else:
        name = "QLoRA" if quantization.get("load_in_4bit") or quantization.get("load_in_8bit") else "LoRA"
    return f"{name} {data.get('task') or 'sft'}"


def _section(data: dict[str, Any], name: str) -> dict[str, Any]:
    section = data.get(name)
    return section if isinstance(section, dict) else {}


def where(gpus: GpuNow | None, cpu: bool = False) -> str:
    """The device a run will take, as far as is known by now: of several cards the one that the hub's lease tries first.

    cpu: the recipe keeps off the cards.
    """
    from tuitune.hub.lease import candidates

    if cpu:
        return "on the CPU, as the recipe says"
    if gpus is None or (not gpus.sample.devices and not gpus.sample.error):
        return "on the GPU if there is one, else on the CPU"
    if not gpus.sample.devices:
        return "no NVIDIA GPU: trains on the CPU"
    cards = {card.key: card for card in gpus.sample.devices}
    order = candidates([{"index": card.index, "uuid": key, "mem_used": card.used, "mem_total": card.total} for key, card in cards.items()])
    if not order:
        return "CUDA_VISIBLE_DEVICES hides every GPU: trains on the CPU"
    device = cards[order[0]["uuid"]]
    name = f"GPU {device.index} ({device.name})" if len(cards) > 1 else device.name
    if device.total is None or device.used is None:
        return f"on {name}"
    return f"on {name}, {(device.total - device.used) / (1 << 30):.0f} of {device.total / (1 << 30):.0f} GiB free"


async def stop_on_screen(app: Actions, view: View) -> None:
    """Shift+F5 on a run's dashboard: that run, wherever it lies."""
    run = await app.in_thread(lambda: _look(view.path), failed="Not stopped")
    if run is not None and run.alive:
        await stop(app, run)
    else:
        app.notify(f"{view.title} is not running any more.")


def _look(path: Path) -> RunSummary | None:
    from tuitune.runs.directory import RunDirectory
    from tuitune.runs.listing import summarize

    return summarize(RunDirectory(path))


async def stop(app: Actions, run: RunSummary) -> None:
    """Shift+F5: ask, then have the run save a checkpoint and end."""
    steps = f" at step {run.step}" + (f" of {run.max_steps}" if run.max_steps else "") if run.step else ""
    question = f"Stop {printable(run.name)}{steps}?"
    choices = [Choice("s", "Save and stop", "save"), Choice("d", "Stop without saving", "drop")]
    answer = await app.push_screen_wait(
        Confirm(question, ["It ends after the current step; saving keeps a checkpoint and the result so far."], choices)
    )
    if not answer:
        return
    reply = await app.in_thread(lambda: _send(run.path, "stop", {"save": answer == "save"}), failed="Not stopped")
    if reply is not None:
        told = reply.get("error") or f"stop {reply.get('s')}"
        app.notify(printable(f"{run.name}: {told}"), title="Run", severity="error" if reply.get("error") else "information")


def _send(run: Path, op: str, args: dict[str, object]) -> dict[str, object]:
    from tuitune.bus.client import HubClient

    reply: dict[str, object] = HubClient(run).send(op, args)
    return reply
