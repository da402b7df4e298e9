"""What the process of a run or job says of itself in its first record."""

import os
import sys
from typing import Any

from tuitune.bus.envelope import VERSION
from tuitune.runs.manifest import Process
from tuitune.versions import installed


def this_process() -> dict[str, Any]:
    """Fields of its `hello`: protocol, identity, command line, versions of the libraries."""
    process = Process.of(os.getpid())
    return {
        "proto": VERSION,
        "pid": os.getpid(),
        "start_ticks": process and process.start_ticks,
        "host": os.uname().nodename,
        "argv": sys.argv,
        "versions": installed(),
    }
