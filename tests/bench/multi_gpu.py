"""Every way to train on several GPUs, driven as a user would: hub, torchrun, orders, a killed rank, the resume. JSON out, a table last.

    python -m tests.bench.multi_gpu --work /tmp/multi --out multi.json                       all modes on all GPUs of the box
    python -m tests.bench.multi_gpu --work /tmp/multi --out multi.json --only qlora-ddp      some; results are added to the file
    python -m tests.bench.multi_gpu --work /tmp/multi --out multi.json --cpu                 tiny shapes on two processes, no GPU

Each mode is a process of its own with a time limit (--seconds). Models have random weights of real shapes, made on the spot and kept in
--work. Exit status 1 when a check failed. The modes are in multi_gpu_recipes.py:

    a run on all GPUs → tokens/s, memory of each rank beside the plan → save → kill -9 of the last rank → resume → set, evaluate, sample,
    pause (in one mode for longer than NCCL's watchdog waits), resume → stop → what each rank has come to
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.multi_gpu_recipes import MODES, WATCHDOG_S, Mode, make_model, recipe, write_data
from tests.support.runs import ROOT, new_run
from tests.support.two_ranks import TwoRanks
from tuitune.files import write_atomically
from tuitune.hub.gpu import GpuSampler
from tuitune.hub.lease import candidates
from tuitune.runs.manifest import read_manifest

STEPS = 18  # of which the first are left out of a figure of speed
WARM = 4
GIB = 1 << 30


class Bench:
    """One mode: `result` is written to `file` whenever something is known. `deadline`: of time.monotonic."""

    def __init__(self, mode: Mode, work: Path, models: Path, file: Path, gpus: int, seconds: float, pause: float | None) -> None:
        self.mode, self.work, self.models, self.file, self.gpus = mode, work, models, file, gpus
        self.pause = pause if pause is not None else 2 if gpus == 0 else WATCHDOG_S + 15
        self.cpu = gpus == 0
        self.deadline = time.monotonic() + seconds
        self.steps = 4 if self.cpu else STEPS
        self.result: dict[str, Any] = {"mode": mode.name, "shape": "tiny" if self.cpu else mode.shape, "checks": {}}

    def tell(self, **found: Any) -> None:
        """Add to the result, on disk too."""
        self.result |= found
        write_atomically(self.file, json.dumps(self.result, indent=1))

    def check(self, name: str, passed: bool) -> None:
        """One thing that has to hold."""
        self.result["checks"][name] = bool(passed)
        self.tell()

    def wait(self, ranks: TwoRanks, what: str, condition: Callable[[], object]) -> Any:
        """The first true value. RuntimeError with the end of the log when the run ends before, or time runs out."""
        while not (value := condition()):
            ended = ranks.hub.poll() is not None
            if (ended and not condition()) or time.monotonic() > self.deadline:
                log = "\n".join(path.read_text(errors="replace")[-3000:] for path in sorted(ranks.run.log.glob("*rank*.txt")))
                state = read_manifest(ranks.run)
                raise RuntimeError(f"{'the run ended' if ended else 'time ran out'} before: {what} ({state.state}: {state.why})\n{log}")
            time.sleep(0.05)
        return value

    def start(self, name: str, gpus: int | str) -> TwoRanks:
        """A run of this mode."""
        folder = self.work / f"{self.mode.name}-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        model = make_model(self.mode.shape, self.models, cpu=self.cpu)
        return TwoRanks(new_run(folder, recipe(self.mode, model, self.work / "data", gpus)), leased=not self.cpu)

    def train(self, ranks: TwoRanks) -> list[dict[str, Any]]:
        """The metrics of the run's first steps."""
        self.wait(ranks, f"step {self.steps}", lambda: any(record["step"] >= self.steps for record in ranks.records("metrics")))
        return ranks.records("metrics")

    def run(self) -> None:
        """All of the mode; what failed is in the result."""
        write_data(self.work / "data", cpu=self.cpu)
        started = time.monotonic()
        if self.mode.base and not self.cpu:
            self._on_one()
        ranks = self.start("all", "cpu" if self.cpu else self.gpus)
        try:
            self._figures(self.train(ranks), ranks)
            self._kill_and_resume(ranks)
            self._orders(ranks)
            self._stop(ranks)
        finally:
            ranks.close()
            self.tell(seconds=round(time.monotonic() - started, 1))

    def _on_one(self) -> None:
        one = self.start("one", 1)
        try:
            self.tell(one_gpu=speed(self.train(one)))
            one.order("stop", save=False)
            one.hub.wait(120)
        finally:
            one.close()

    def _figures(self, metrics: list[dict[str, Any]], ranks: TwoRanks) -> None:
        found = speed(metrics)
        hello = ranks.records("hello")[-1]
        self.tell(
            world=hello["world"], strategy=hello["strategy"], device=hello["device"], all_gpus=found, proof=ranks.records("proof")[-1:]
        )
        self.check("a process on each", hello["world"] == (2 if self.cpu else self.gpus))
        self.check("losses are numbers", all(isinstance(record["loss"], float) for record in metrics))
        one = self.result.get("one_gpu")
        if one and one["tokens_per_second"] and found["tokens_per_second"]:
            self.tell(speed_up=round(found["tokens_per_second"] / one["tokens_per_second"], 3))
            self.check("speed-up of 0.9 a GPU", self.result["speed_up"] >= 0.9 * self.gpus)
        peaks = [max(rank["peak_alloc"] for rank in each) for each in zip(*(r["mem_ranks"] for r in metrics if r.get("mem_ranks")))]
        planned = next((proof["allocated"]["planned"] for proof in ranks.records("proof") if proof.get("allocated")), None)
        if peaks and planned:
            off = [round(100 * (peak / planned - 1), 1) for peak in peaks]
            self.tell(
                peak_allocated_gib=[round(peak / GIB, 3) for peak in peaks], planned_gib=round(planned / GIB, 3), off_plan_percent=off
            )
            self.check("each GPU within 5 % of the plan", max(map(abs, off)) <= 5)
        devices = [device for record in ranks.records("gpu")[-1:] for device in record.get("devices", [])]
        self.tell(nvml_gib=[round((device.get("mem_used") or 0) / GIB, 2) for device in devices])

    def _kill_and_resume(self, ranks: TwoRanks) -> None:
        answer = self._order(ranks, "save")
        whole = self.wait(ranks, "the checkpoint", lambda: [one for one in ranks.records("checkpoint") if one["complete"]])
        self.tell(checkpoint={key: whole[-1][key] for key in ("step", "bytes", "seconds")})
        started = time.monotonic()
        os.kill(ranks.workers()[-1], signal.SIGKILL)
        self.wait(ranks, "the end after kill -9 of a rank", lambda: ranks.hub.poll() is not None)
        self.tell(seconds_until_all_had_ended=round(time.monotonic() - started, 1))
        self.check("a killed rank ends the attempt", read_manifest(ranks.run).state == "failed")
        self.check("the sentence names the rank and its signal", "ended first (SIGKILL" in str(read_manifest(ranks.run).why))
        started = time.monotonic()
        ranks.start_hub()
        goal = answer["step"] + 3
        again = self.wait(ranks, f"step {goal} of the second attempt", lambda: self._second(ranks, goal))
        self.tell(seconds_until_it_trained_again=round(time.monotonic() - started, 1))
        before = {record["step"]: record["loss"] for record in ranks.records("metrics") if record["src"] == "trainer-1"}
        both = {record["step"]: [before[record["step"]], record["loss"]] for record in again if record["step"] in before}
        self.tell(trained_twice=both, resumed={record["step"]: record["loss"] for record in again})
        self.check("it goes on from the checkpoint", again[0]["step"] == answer["step"] + 1)
        self.check("with the same losses (1 %)", all(abs(new / old - 1) < 0.01 for old, new in both.values()))

    def _second(self, ranks: TwoRanks, goal: int) -> list[dict[str, Any]]:
        found = [record for record in ranks.records("metrics") if record["src"] == "trainer-2"]
        return found if found and found[-1]["step"] >= goal else []

    def _orders(self, ranks: TwoRanks) -> None:
        spread = self.mode.strategy == "fsdp"
        self._order(ranks, "set", key="learning_rate", value=2e-4, kind="hold")
        self._order(ranks, "evaluate")
        self._order(ranks, "sample", prompt="the cat", expected="failed" if spread else "applied")
        paused = self._order(ranks, "pause", mode="keep")
        if self.mode.pauses:
            time.sleep(self.pause)
            self.tell(paused_for_seconds=self.pause)
        self._order(ranks, "resume")
        goal = paused["step"] + 2
        self.wait(ranks, "two steps after the pause", lambda: self._second(ranks, goal))
        self.check("trains on after the pause", True)

    def _order(self, ranks: TwoRanks, op: str, expected: str = "applied", **arguments: Any) -> dict[str, Any]:
        started = time.monotonic()
        ranks.patience = max(1.0, self.deadline - time.monotonic())  # a large checkpoint takes its time
        answer = ranks.order(op, **arguments)
        told = {"op": op, "s": answer["s"], "step": answer.get("step"), "seconds": round(time.monotonic() - started, 3)}
        self.tell(orders=[*self.result.get("orders", []), {**told, "error": answer.get("error")}])
        self.check(f"order {op}: {expected}", answer["s"] == expected)
        return answer

    def _stop(self, ranks: TwoRanks) -> None:
        self._order(ranks, "stop", save=False)
        self.wait(ranks, "the end", lambda: ranks.hub.poll() is not None)
        told = ranks.told()
        self.tell(ranks=[{key: rank[key] for key in ("step", "rate", "orders", "memory", "weights")} for rank in told])
        self.check("every rank came to its end", len(told) == (2 if self.cpu else self.gpus))
        for what in ("orders", "losses", "norms", "rate", "step", "weights"):
            self.check(f"the same {what} on every rank", all(rank[what] == told[0][what] for rank in told))
        self.check("the learning rate that was set", told[0]["rate"][0] == 2e-4)
        self.check("the run says stopped", read_manifest(ranks.run).state == "stopped")


def speed(metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the steps after the first few."""
    later = [record for record in metrics if record["step"] > WARM] or metrics
    return {
        "tokens_per_second": statistics.median([record["tokens_per_second"] or 0.0 for record in later]),
        "step_ms": statistics.median([record["step_ms"] or 0.0 for record in later]),
        "steps_ms": [record["step_ms"] for record in metrics],
        "parts": [record.get("parts") for record in later],
        "losses": [record["loss"] for record in metrics],
    }


def one_mode(bench: Bench) -> int:
    """What the process of a mode does."""
    try:
        bench.run()
    except Exception as error:
        bench.tell(error=f"{type(error).__name__}: {error}")
    passed = "error" not in bench.result and all(bench.result["checks"].values())
    bench.tell(passed=passed)
    return 0 if passed else 1


def table(modes: dict[str, dict[str, Any]]) -> str:
    """A line for each mode."""
    lines = [f"{'mode':11} {'shape':5} {'passed':6} {'tokens/s':>9} {'1 GPU':>9} {'×':>5} {'GiB a rank':>18} {'planned':>8}  failed checks"]
    for name, one in modes.items():
        rate = (one.get("all_gpus") or {}).get("tokens_per_second") or 0
        alone = (one.get("one_gpu") or {}).get("tokens_per_second") or 0
        peaks = " ".join(f"{peak:.2f}" for peak in one.get("peak_allocated_gib", []))
        failed = [check for check, passed in one.get("checks", {}).items() if not passed] + [str(one.get("error", ""))[:200]]
        words = f"{name:11} {one.get('shape', ''):5} {one.get('passed')!s:6} {rate:9,.0f} {alone:9,.0f} {one.get('speed_up', 0):5.2f}"
        lines.append(f"{words} {peaks:>18} {one.get('planned_gib', 0):8.2f}  {'; '.join(filter(None, failed))}")
    return "\n".join(lines)


def cards() -> list[str]:
    """Names of the GPUs that a run may take: the box's, or those that CUDA_VISIBLE_DEVICES leaves."""
    sampler = GpuSampler()
    try:
        return [str(device["name"]) for device in candidates(sampler.sample()["devices"])]
    finally:
        sampler.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.multi_gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for models, data and runs")
    parser.add_argument("--models", type=Path, help="folder for the models alone")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; modes that it has already stay in it")
    parser.add_argument("--only", default=",".join(MODES), help=f"modes, comma separated: {', '.join(MODES)}")
    parser.add_argument("--seconds", type=float, default=290.0, help="limit of each mode")
    parser.add_argument("--pause", type=float, help="seconds of the long pause (default: longer than NCCL's watchdog waits)")
    parser.add_argument("--cpu", action="store_true", help="two processes on the CPU, tiny shapes")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := sorted(set(names) - set(MODES)):
        parser.error(f"no mode {', '.join(unknown)}; there are: {', '.join(MODES)}")
    found = [] if arguments.cpu else cards()
    if not arguments.cpu and len(found) < 2:
        parser.error(f"this box has {len(found)} GPUs, and two are needed; --cpu tries the same on the CPU")
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.one:
        models = arguments.models or arguments.work / "models"
        return one_mode(Bench(MODES[names[0]], arguments.work, models, arguments.out, len(found), arguments.seconds, arguments.pause))
    return all_modes(names, arguments, found)


def all_modes(names: list[str], arguments: argparse.Namespace, found: list[str]) -> int:
    """Each mode in a process of its own; the document is written after each."""
    document: dict[str, Any] = {"schema": 1, "bench": "multi-gpu", "cards": found, "modes": {}}
    if arguments.out.exists():
        document["modes"] = json.loads(arguments.out.read_text())["modes"]
    for name in names:
        file = arguments.work / f"{name}.json"
        file.unlink(missing_ok=True)
        words = ["--work", str(arguments.work), "--out", str(file), "--only", name, "--seconds", str(arguments.seconds), "--one"]
        words += ["--models", str(arguments.models)] if arguments.models else []
        words += ["--pause", str(arguments.pause)] if arguments.pause is not None else []
        command = [sys.executable, "-m", "tests.bench.multi_gpu", *words, *(["--cpu"] if arguments.cpu else [])]
        process = subprocess.Popen(command, cwd=ROOT)
        try:
            process.wait(arguments.seconds + 60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        written = json.loads(file.read_text()) if file.exists() else {}
        document["modes"][name] = written or {
            "mode": name,
            "error": f"the mode's process ended with {process.returncode} and wrote nothing",
        }
        write_atomically(arguments.out, json.dumps(document, indent=1))
        print(f"{name}: {'passed' if written.get('passed') else 'failed'} after {written.get('seconds')} s", flush=True)
    print(table({name: document["modes"][name] for name in names}))
    return 0 if all(document["modes"][name].get("passed") for name in names) else 1


if __name__ == "__main__":
    sys.exit(main())
