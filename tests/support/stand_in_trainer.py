"""A trainer without a model, for tests of the hub: it speaks the real journal and link, and does what its second argument says.

short       three steps, then done                  long        50 steps a second until it is stopped
oom         torch's out-of-memory traceback         user-error  an `end` with a sentence
killed      SIGKILL to itself                       segfault    SIGSEGV to itself
late-crash  three steps, done, then SIGSEGV         worker      leaves a process behind and dies by SIGKILL
early       sleeps before it listens to signals     deaf        ignores SIGTERM
secrets     prints and journals secrets             quick       2,000 steps without a pause
sparse      three steps, logs every other one, done
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tuitune.bus.journal import Journal
from tuitune.bus.trainer_link import TrainerLink

OOM = "Traceback (most recent call last):\n  File x\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
PAUSE_S = 0.02  # a step


def main(run: Path, story: str) -> int:
    if story == "early":
        print("not listening yet", flush=True)
        time.sleep(60)
    journal = Journal(run / "journal" / "trainer-1.jsonl")
    link = TrainerLink(run)
    link.start()
    stopped: list[str] = []
    signal.signal(signal.SIGTERM, lambda *_: None if story == "deaf" else stopped.append("SIGTERM"))
    journal.emit("hello", pid=os.getpid(), caps=["stop", "save", "evaluate"], visible=os.environ.get("CUDA_VISIBLE_DEVICES"))
    journal.emit("state", s="running")
    print("hello from the trainer", flush=True)
    act(story, journal)
    steps = {"short": 3, "sparse": 3, "late-crash": 3, "secrets": 3, "quick": 2_000}.get(story, 10_000)
    if story == "user-error":
        return 1
    step = 0
    for step in range(1, steps + 1):
        if story != "sparse" or step % 2 == 0:
            journal.emit("metrics", step=step, max_steps=steps, loss=1.0 / step)
        for command in link.take():
            if command["op"] == "stop":
                stopped.append("stop")
            link.reply(command["id"], ok=True, step=step)
            journal.emit("applied", id=command["id"], op=command["op"], step=step, ok=True)
        if stopped:
            break
        time.sleep(0 if story == "quick" else PAUSE_S)
    state = "stopped" if stopped else "done"
    journal.emit("state", s=state, why=f"stop by {stopped[0]}" if stopped else None)
    journal.emit("end", step=step, reason=state)
    link.close()
    if story == "late-crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    return 0


def act(story: str, journal: Journal) -> None:
    """What a story has that the plain course of a run has not."""
    match story:
        case "oom":
            sys.exit(OOM)
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
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
