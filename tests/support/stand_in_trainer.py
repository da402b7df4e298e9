"""A trainer without a model, for tests of the hub: it speaks the real journal and link, and does what its second argument says."""

import os
import signal
import sys
import time
from pathlib import Path

from tuitune.bus.journal import Journal
from tuitune.bus.trainer_link import TrainerLink


def main(run: Path, story: str) -> int:
    journal = Journal(run / "journal" / "trainer-1.jsonl")
    link = TrainerLink(run)
    link.start()
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append("SIGTERM"))
    journal.emit("hello", pid=os.getpid(), caps=["stop", "save", "evaluate"])
    journal.emit("state", s="running")
    print("hello from the trainer", flush=True)
    if story == "oom":
        sys.exit("Traceback (most recent call last):\n  File x\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB")
    if story == "user-error":
        journal.emit("end", step=0, reason="failed", error="data.jsonl: row 3 is not JSON; mend or remove it")
        return 1
    if story == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if story == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    steps = 3 if story == "short" else 10_000
    for step in range(1, steps + 1):
        journal.emit("metrics", step=step, max_steps=steps, loss=1.0 / step)
        for command in link.take():
            if command["op"] == "stop":
                stopped.append("stop")
            link.reply(command["id"], ok=True, step=step)
            journal.emit("applied", id=command["id"], op=command["op"], step=step, ok=True)
        if stopped:
            break
        time.sleep(0.02)
    state = "stopped" if stopped else "done"
    journal.emit("state", s=state)
    journal.emit("end", step=step, reason=state)
    link.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
