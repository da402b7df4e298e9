"""A sweep: ordinary runs of one recipe with different values, so many at a time, followed to their end; the worst are stopped early.

Each run has its own hub and outlives this process. Who it belongs to stands in its manifest before it starts (`job`: sweep and number), so
that a sweep that goes on after a kill finds what it had started and starts nothing twice.

    stop early: with `median:K`, a run whose best value after K of them is worse than the median of the others' best at the same step;
                always, a run that has paused because its loss is no number.
"""

import time
from pathlib import Path
from typing import Any

from tuitune.after.job import Job
from tuitune.after.sweep_grid import point_text, words
from tuitune.after.sweep_table import Goal, Trial, document, goal_of, median_rule, read_table, worse_than_median, write_table
from tuitune.bus.client import HubClient
from tuitune.bus.envelope import as_number
from tuitune.bus.journal import JournalTail
from tuitune.errors import UserError
from tuitune.hub.gpu import GpuSampler
from tuitune.hub.launch import resume_run, start_hub
from tuitune.recipe.devices import wants_cpu
from tuitune.recipe.document import parse
from tuitune.runs.directory import RunDirectory, create_workspace_run, runs_folder
from tuitune.runs.listing import list_runs
from tuitune.runs.manifest import ENDED, Manifest, read_manifest, without_hub, write_manifest
from tuitune.runs.results import result_of

LOOK_S = 1.0
SWEEP = "sweep"  # key of a run's `job`: the id of the sweep it belongs to; `trial`: its number there
STOPPED = "the sweep was stopped"


def run(job: Job) -> dict[str, Any]:
    """The runs of the sweep, to the end of the last; the table."""
    return Sweep(job).to_the_end()


class Sweep:
    """One attempt of a sweep."""

    def __init__(self, job: Job) -> None:
        self.job, self.args = job, job.args
        self.text = job.run.recipe.read_text(encoding="utf-8")
        self.metric, self.rule = str(self.args["metric"]), self.args.get("rule")
        self.after = median_rule(self.rule)
        self.goal: Goal = goal_of(self.metric, self.args.get("goal"))
        self.trials = [Trial(number, dict(values)) for number, values in enumerate(self.args["points"], 1)]
        self.runs: dict[int, RunDirectory] = {}
        self.tails: dict[int, JournalTail] = {}
        self._written: dict[str, Any] = {}

    def to_the_end(self) -> dict[str, Any]:
        """Start, follow, judge; as long as there is something to do."""
        self._find_started()
        together = int(self.args.get("parallel") or self._free_places())
        self.job.state("running", f"{len(self.trials)} runs, {together} at a time")
        while not self.job.stopped():
            self._look()
            waiting = [trial for trial in self.trials if trial.run is None]
            living = [trial for trial in self.trials if self._lives(trial)]
            self._tell(len(self.trials) - len(waiting) - len(living))
            if not waiting and not living:
                return self._result()
            if waiting and len(living) < together:
                self._start(waiting[0])
                continue
            time.sleep(LOOK_S)
        self._stop_all()
        return self._result()

    def _find_started(self) -> None:
        """What an earlier attempt has started: finished ones count, living ones are followed, interrupted ones go on."""
        try:
            verdicts = {row["number"]: row["verdict"] for row in read_table(self.job.run)["trials"]}
        except UserError:
            verdicts = {}
        for path in [summary.path for summary in list_runs(runs_folder(self.job.workspace))]:
            found = RunDirectory(path)
            try:
                manifest = read_manifest(found)
            except UserError:
                continue
            if manifest.job.get(SWEEP) != self.job.run.name:
                continue
            trial = self.trials[int(manifest.job["trial"]) - 1]
            verdict = verdicts.get(trial.number)
            trial.verdict = None if verdict == STOPPED else verdict
            self._follow(trial, found)
            self._let_go_on(trial, found, manifest, stopped=verdict == STOPPED)

    def _let_go_on(self, trial: Trial, run: RunDirectory, manifest: Manifest, *, stopped: bool) -> None:
        state = manifest.living_state()
        if manifest.hub is None and manifest.trainer is None and state not in ENDED:
            start_hub(run, self.job.workspace)  # the kill came between making and starting it
        elif state == "lost" or without_hub(manifest) or (state == "stopped" and stopped):
            self.job.warn(f"{run.name} goes on ({words(trial.values)})")
            resume_run(run)

    def _start(self, trial: Trial) -> None:
        """One run, its owner written down before it lives."""
        recipe = Path(self.args["recipe"])
        text = point_text(self.text, trial.values, wait=True)
        run = create_workspace_run(self.job.workspace, str(self.args.get("runs") or "runs"), f"{self.args['name']}-{trial.number}", text)
        owner = {SWEEP: self.job.run.name, "trial": trial.number}
        overridden = list(self.args.get("overridden") or [])
        manifest = Manifest(
            f"{self.args['name']}-{trial.number}",
            recipe_path=str(recipe),
            workspace=str(self.job.workspace),
            overridden=overridden,
            job=owner,
        )
        write_manifest(run, manifest)
        start_hub(run, self.job.workspace)
        self._follow(trial, run)
        self.job.emit("trial", number=trial.number, run=run.name, values=trial.values)

    def _follow(self, trial: Trial, run: RunDirectory) -> None:
        trial.run, self.runs[trial.number] = run.name, run
        self.tails[trial.number] = JournalTail(run.journal)

    def _look(self) -> None:
        """News of every run that was started, and what follows from it."""
        for trial in self.trials:
            if trial.run is None:
                continue
            for record in self.tails[trial.number].poll():
                self._read(trial, record)
            manifest = read_manifest(self.runs[trial.number])
            trial.state, trial.why = manifest.living_state(), manifest.why
            trial.seconds = None if manifest.ended is None or manifest.created is None else manifest.ended - manifest.created
            trial.left = (
                (result_of(self.runs[trial.number], manifest) or {}).get("step", manifest.step) if manifest.state in ENDED else None
            )
            trial.look(self.metric, self.goal)
            if self._lives(trial) and trial.verdict is None and self.after is not None:
                others = [other for other in self.trials if other is not trial and other.run is not None]
                self._judge(trial, worse_than_median(trial, others, self.after, self.goal))

    def _read(self, trial: Trial, record: dict[str, Any]) -> None:
        step = as_number(record.get("step"))
        if record.get("ev") in ("metrics", "eval") and step is not None:
            nested = record.get("metrics")
            value = as_number((nested if isinstance(nested, dict) else record).get(self.metric))
            if value is not None:
                trial.curve.add(step, value)
        elif record.get("ev") == "alarm" and record.get("kind") == "nan":
            self._judge(trial, f"stopped at step {record.get('step')}: {record.get('text')}")

    def _judge(self, trial: Trial, verdict: str | None) -> None:
        """Stop a run early."""
        if verdict is None or trial.verdict is not None:
            return
        trial.verdict = verdict
        self._send_stop(trial)
        self.job.warn(f"{trial.run} ({words(trial.values)}) is {verdict}")

    def _send_stop(self, trial: Trial) -> None:
        try:
            HubClient(self.runs[trial.number].path).send("stop", {})
        except UserError as error:
            if self._lives(trial):
                self.job.warn(f"{trial.run} could not be stopped: {error}")

    def _lives(self, trial: Trial) -> bool:
        return trial.run is not None and read_manifest(self.runs[trial.number]).living_state() not in ENDED

    def _stop_all(self) -> None:
        """The sweep was stopped: so are its runs, which save first; `tuitune resume` lets them go on."""
        stopping = [trial for trial in self.trials if self._lives(trial)]
        for trial in stopping:
            trial.verdict = STOPPED
            self._send_stop(trial)
        self._tell(0)
        while any(self._lives(trial) for trial in stopping):
            self.job.stopped()
            time.sleep(LOOK_S)
        self._look()

    def _free_places(self) -> int:
        """How many runs the box has GPUs for; 1 on the CPU."""
        data = parse(self.text).data
        launch, training = data.get("launch") or {}, data.get("training") or {}
        if wants_cpu(launch, training):
            return 1
        sampler = GpuSampler()
        try:
            cards = len(sampler.sample()["devices"])
        finally:
            sampler.close()
        each = launch.get("gpus") if isinstance(launch.get("gpus"), int) else 1
        return max(1, cards // max(1, int(each or 1)))

    def _tell(self, done: int) -> None:
        table = document(self.trials, self.metric, self.goal, self.rule)
        if table != self._written:
            self._written = table
            write_table(self.job.run, table)
        living = ", ".join(trial.run for trial in self.trials if trial.run and self._lives(trial))
        self.job.progress(done, len(self.trials), living or "runs")

    def _result(self) -> dict[str, Any]:
        table = document(self.trials, self.metric, self.goal, self.rule)
        files = write_table(self.job.run, table)
        best = next((row for row in table["trials"] if row["number"] == table["best"]), None)
        return {**table, "best_run": best and best["run"], "best_values": best and best["values"], "files": [str(path) for path in files]}
