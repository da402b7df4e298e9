"""A kind of job without a model, for tests of the job's process: it answers `ask` until it is stopped, and counts.

args: `story` loud (progress of 3, then done), talk (until stopped), sentence (a UserError), broken (a traceback), slow (does not leave
`loading` until a signal comes).
"""

import time
from typing import Any

from tuitune.after.job import Job
from tuitune.errors import UserError

OPS = ("ask",)


def run(job: Job) -> dict[str, Any]:
    """Play the story."""
    story = job.args["story"]
    if story == "slow":
        time.sleep(600)
    job.state("running")
    if story == "sentence":
        raise UserError("row 3 has no answer; mend it")
    if story == "broken":
        raise RuntimeError("no such kernel")
    if story == "loud":
        for number in range(3):
            job.progress(number + 1, 3, "rows")
        return {"rows": 3, "path": str(job.run.path / "merged")}
    asked = 0
    while not job.stopped():
        for command in job.commands():
            asked += 1
            job.answer(command, text=str(command["args"].get("text")).upper())
        time.sleep(0.01)
    return {"asked": asked}
