"""Evaluating a run from the workbench: a question, a job with a hub of its own, and its report as a tab when it is done."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tuitune.errors import UserError
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import ENDED, read_manifest
from tuitune.text import printable
from tuitune.workbench.problem_actions import ProblemActions

PERIOD = 1.0  # seconds between looks at the job
REPORT = "evaluation.md"


class EvaluationActions(ProblemActions):
    """The handlers of run.evaluate_model and run.open_report, for the run of the active view or the one under the table's cursor."""

    def action_evaluate_model(self) -> None:
        """Ask what to measure, start the job, and open its report when it is there."""
        if (path := self._chosen_run()) is not None:
            self.run_worker(self._evaluate(path), group="evaluation", exit_on_error=False)

    def action_open_report(self) -> None:
        """The newest report of the run."""
        if (path := self._chosen_run()) is not None:
            self.run_worker(self._open_report(path), group="evaluation", exit_on_error=False)

    def _chosen_run(self) -> Path | None:
        view = self.editor.active
        if view is not None and view.kind == "run":
            return view.path
        current = getattr(view, "current", None)  # the runs table's
        return current.path if current is not None else None

    async def _open_report(self, path: Path) -> None:
        report = await self.in_thread(lambda: newest_report(path), failed="No report")
        if report is not None:
            await self.open_view("text", report)

    async def _evaluate(self, path: Path) -> None:
        lines = await self.in_thread(lambda: words(path, self.root), failed="Not evaluated")
        if lines is None:
            return
        from tuitune.workbench.parts.confirm import Choice, Confirm

        choices = [Choice("y", "Losses alone", "nll"), Choice("a", "Answers too (exact match)", "exact")]
        answer = await self.push_screen_wait(Confirm(f"Evaluate {printable(path.name)}?", lines, choices))
        if answer not in ("nll", "exact"):
            return
        wanted = {"metrics": ["nll"] if answer == "nll" else ["nll", "exact"]}
        job = await self.in_thread(lambda: _start(path, wanted, self.root), failed="Not evaluated")
        if job is None:
            return
        self.notify(f"{printable(job.name)} has started; its report opens when it is done.", title="Evaluation")
        self.watch_folder()
        while (state := await self.in_thread(lambda: read_manifest(job).living_state(), failed="Evaluation")) is not None:
            if state in ENDED:
                await self._tell_end(job)
                return
            await asyncio.sleep(PERIOD)

    async def _tell_end(self, job: RunDirectory) -> None:
        report = job.path / REPORT
        if await asyncio.to_thread(report.is_file):
            await self.open_view("text", report)
            return
        why = await self.in_thread(lambda: read_manifest(job).why, failed="Evaluation")
        self.notify(printable(why or f"{job.name} ended without a report"), title="Evaluation", severity="error")


def words(path: Path, workspace: Path) -> list[str]:
    """What an evaluation of this run will read, in sentences. UserError when there is nothing to evaluate, or on. For a thread."""
    from tuitune.after.source import find_source

    source = find_source(str(path), workspace)
    sources = source.recipe.dataset["eval"] if source.recipe else []
    if not sources:
        raise UserError(f"{source.words} has no dataset.eval; name rows on the command line: tuitune eval {path.name} --data FILE")
    rows = ", ".join(printable(Path(str(one["path"])).name, limit=60) for one in sources[:3])
    beside = "beside its base model (the adapter left out)" if source.kind == "adapter" else "beside the model before its training"
    return [f"{source.words} on {rows}, {beside}, and both on the general texts of the forgetting probe.", "Training is not touched."]


def newest_report(path: Path) -> Path:
    """An evaluation's own report, or the newest one of a run. UserError when it has none. For a thread."""
    if (path / REPORT).is_file():
        return path / REPORT
    found = sorted((path / "evaluations").glob("*.md"), key=lambda report: report.stat().st_mtime)
    if not found:
        raise UserError(f"{printable(path.name)} has not been evaluated yet: tuitune eval {path.name}")
    return found[-1]


def _start(path: Path, wanted: dict[str, Any], workspace: Path) -> RunDirectory:
    from tuitune.after.evaluation_command import start_evaluation

    return start_evaluation(str(path), wanted, workspace)
