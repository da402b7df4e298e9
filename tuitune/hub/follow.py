"""Follow a run from its first record to its end, live or long over."""

import time
from collections.abc import Iterator
from typing import Any

from tuitune.bus.journal import JournalTail
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import ENDED, LOST, read_manifest

POLL_S = 0.1


def follow(run: RunDirectory) -> Iterator[dict[str, Any]]:
    """The run's records in order, then what it writes from now on; ends when the run has ended.

    When hub and trainer died without a word, the last record is a made-up {"ev": "state", "s": "lost", "why": …} with "src" "follow".
    UserError when the directory is no run.
    """
    tail = JournalTail(run.journal)
    while True:
        state = read_manifest(run).living_state()
        records = tail.poll()
        yield from records
        if records:
            continue
        if state == "lost":
            yield {"v": 1, "n": 0, "t": time.time(), "ev": "state", "s": "lost", "why": LOST, "src": "follow"}
        if state in ENDED:
            return
        time.sleep(POLL_S)
