"""A trainer without a model, for tests of the hub: it speaks the real journal and link, and does what its second argument says.

short       three steps, then done                  long        50 steps a second until it is stopped
oom         torch's out-of-memory traceback         user-error  an `end` with a sentence
killed      SIGKILL to itself                       segfault    SIGSEGV to itself
late-crash  three steps, done, then SIGSEGV         worker      leaves a process behind and dies by SIGKILL
early       sleeps before it listens to signals     deaf        ignores SIGTERM
secrets     prints and journals secrets             quick       2,000 steps without a pause
sparse      three steps, logs every other one, done saves       saves at every 10th step, then like long
late-oom    saves at step 10, out of memory at 15   late-kill   saves at step 10, SIGKILL at 15
error       a traceback before the first step       late-error  saves at step 10, a traceback at 15
course      200 steps, saves slowly at every 10th, done
stuck       at step 5 one call does not return until a file `go-on` is in the run directory

"oom,long" plays oom in the first attempt and long in the second and all later ones. It obeys the manifest: the attempt's own journal, the
checkpoint that it starts from, the overrides (told in its `seam`). `pause` with the mode suspend saves, ends and says "suspended".
"""

import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tuitune.bus.journal import Journal
from tuitune.bus.trainer_link import TrainerLink
from tuitune.runs.checkpoints import step_of
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import Process, read_manifest
from tuitune.trainer.checkpoints import mark_complete

OOM = "Traceback (most recent call last):\n  File x\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
ERROR = "Traceback (most recent call last):\n  File x\nValueError: no such column"
PAUSE_S = 0.02  # a step
STEPS = {"short": 3, "sparse": 3, "late-crash": 3, "secrets": 3, "quick": 2_000, "course": 200}
OPS = ("stop", "save", "evaluate", "pause", "resume", "set", "stacks", "kill")


class StandIn:
    """One attempt: its journal, its link, where it is."""

    def __init__(self, path: Path, stories: str) -> None:
        self.run = RunDirectory(path)
        self.manifest = read_manifest(self.run)
        told = stories.split(",")
        self.story = told[min(self.manifest.attempt, len(told)) - 1]
        self.step = step_of(Path(self.manifest.resume_from or "")) or 0
        self.stopped: list[str] = []
        self.suspended = False
        self.phase = "loading"
        self.boundary = time.monotonic()

    def main(self) -> int:
        if self.story == "early":
            print("not listening yet", flush=True)
            time.sleep(60)
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        self.journal = Journal(self.run.journal / f"trainer-{self.manifest.attempt}.jsonl")
        self.link = TrainerLink(self.run.path)
        self.link.start()
        signal.signal(signal.SIGTERM, lambda *_: None if self.story == "deaf" else self.stopped.append("SIGTERM"))
        own = Process.of(os.getpid())
        caps = [{"name": op, "effect": "step"} for op in OPS]
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        self.journal.emit("hello", pid=os.getpid(), start_ticks=own and own.start_ticks, caps=caps, visible=visible)
        if self.manifest.resume_from:
            told = {"checkpoint": self.manifest.resume_from, "changed": self.manifest.passed_over}
            self.journal.emit("seam", attempt=self.manifest.attempt, step=self.step, **told)
        self.enter("running")
        print("hello from the trainer", flush=True)
        act(self.story, self.journal)
        if self.story == "user-error":
            return 1
        threading.Thread(target=self.beat, daemon=True).start()
        self.train(STEPS.get(self.story, 10_000))
        return self.leave()

    def enter(self, phase: str, why: str | None = None) -> None:
        self.phase = phase
        self.journal.emit("state", s=phase, step=self.step, why=why)

    def beat(self) -> None:
        while True:
            age = time.monotonic() - self.boundary
            self.journal.emit("hb", step=self.step, phase=self.phase, since_boundary_s=age)
            time.sleep(0.2)

    def train(self, steps: int) -> None:
        training = self.manifest.overrides.get("training", {})
        while self.step < steps and not (self.stopped or self.suspended):
            self.step += 1
            misbehave(self)
            if self.story != "sparse" or self.step % 2 == 0:
                self.journal.emit("metrics", step=self.step, max_steps=steps, loss=1.0 / self.step, step_ms=20.0, **training)
            self.boundary = time.monotonic()
            for command in self.link.take():
                self.apply(command)
            if self.step % 10 == 0 and self.story.startswith(("saves", "late", "course")):
                self.save()
            time.sleep(0 if self.story == "quick" else PAUSE_S)

    def apply(self, command: dict[str, Any]) -> None:
        op, arguments = command["op"], command.get("args") or {}
        if op == "stop":
            self.stopped.append("stop")
        elif op == "save":
            self.save()
        elif op == "pause" and arguments.get("mode") == "suspend":
            self.save()
            self.suspended = True
        told = {"key": arguments.get("key"), "old": None, "new": arguments.get("value")} if op == "set" else {"mode": arguments.get("mode")}
        self.journal.emit("applied", id=command["id"], op=op, by=command.get("by"), step=self.step, ok=True, **told)
        self.link.reply(command["id"], ok=True, step=self.step)

    def save(self) -> None:
        folder = self.run.checkpoints / f"checkpoint-{self.step}"
        folder.mkdir(exist_ok=True)
        (folder / "weights").write_text(f"of step {self.step}")
        if self.story == "course":
            time.sleep(0.1)  # for a kill to hit it
        mark_complete(folder, self.step)
        self.journal.emit("checkpoint", step=self.step, path=str(folder), complete=True)

    def leave(self) -> int:
        state = "suspended" if self.suspended else "stopped" if self.stopped else "done"
        self.enter(state, f"stop by {self.stopped[0]}" if self.stopped else None)
        self.journal.emit("end", step=self.step, reason=state)
        self.link.close()
        if self.story == "late-crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        return 0


def misbehave(trainer: StandIn) -> None:
    """What happens to a story at a certain step."""
    match (trainer.story, trainer.step):
        case ("late-oom", 15):
            sys.exit(OOM)
        case ("late-error", 15):
            sys.exit(ERROR)
        case ("late-kill", 15):
            os.kill(os.getpid(), signal.SIGKILL)
        case ("stuck", 5):
            while not (trainer.run.path / "go-on").exists():
                time.sleep(0.02)


def act(story: str, journal: Journal) -> None:
    """What a story has before its first step."""
    match story:
        case "oom":
            sys.exit(OOM)
        case "error":
            sys.exit(ERROR)
        case "user-error":
            journal.emit("end", step=0, reason="failed", error="data.jsonl: row 3 is not JSON; mend or remove it")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "worker":
            worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            print(f"worker {worker.pid}", flush=True)
            time.sleep(0.3)  # for the hub to read it
            os.kill(os.getpid(), signal.SIGKILL)
        case "secrets":
            print(f"password {os.environ['STORY_PASSWORD']} token hf_abcdefghijklmnop", flush=True)
            journal.emit("warning", text=f"password {os.environ['STORY_PASSWORD']} token hf_abcdefghijklmnop")


if __name__ == "__main__":
    sys.exit(StandIn(Path(sys.argv[1]), sys.argv[2]).main())
