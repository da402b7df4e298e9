"""What the training libraries find on this box, asked in a process of its own (tuitune.trainer.probe) and remembered for an hour.

Their imports take seconds. Only an answer without a fault is remembered, for the same libraries, driver, GPUs and environment: whoever
mends something is never told of it again, and `tuitune doctor` always asks anew.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from time import time
from typing import Any

from tuitune.files import cache_dir, write_atomically
from tuitune.processes import our_environment
from tuitune.text import printable

PROBE = (sys.executable, "-P", "-m", "tuitune.trainer.probe")
PROBE_LIMIT_S = 120.0  # a cold import of torch from a slow network disk takes a minute
REMEMBERED_S = 3600.0
DECISIVE = ("CUDA_", "LD_", "BNB_", "PYTHON", "NVIDIA_")  # beginnings of the environment variables that change what is found


def start_probe() -> Callable[[], dict[str, Any]]:
    """Start asking; what is returned waits for the answer, {"error": why} when there is none. Never raises."""
    pipe = subprocess.PIPE
    probe = subprocess.Popen(PROBE, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, env=our_environment())
    return lambda: _answer(probe)


def remembered(path: Path | None) -> dict[str, Any] | None:
    """The answer kept in `path`, None when there is none or it is too old."""
    if path is None:
        return None
    try:
        if not 0 <= time() - path.stat().st_mtime < REMEMBERED_S:
            return None
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found
    except (OSError, ValueError):
        return None


def remember(path: Path | None, found: dict[str, Any]) -> None:
    """Keep an answer in which nothing is wrong."""
    if path is not None and all(isinstance(part, dict) and not part.get("error") for part in found.values()) and "error" not in found:
        try:
            write_atomically(path, json.dumps(found), mode=0o600)
        except OSError:
            pass  # a full or read-only cache costs the next check the seconds of the imports


def place(*decisive: Any) -> Path | None:
    """The file for answers under these circumstances (anything JSON) and the environment of this process; None without a cache."""
    environment = {name: value for name, value in os.environ.items() if name.startswith(DECISIVE)}
    name = sha256(json.dumps([PROBE, environment, *decisive], sort_keys=True).encode()).hexdigest()[:16]
    try:
        return cache_dir() / f"libraries-{name}.json"
    except OSError:  # a home that cannot be written: `doctor` must speak there all the same
        return None


def _answer(probe: "subprocess.Popen[str]") -> dict[str, Any]:
    try:
        out, words = probe.communicate(timeout=PROBE_LIMIT_S)
        found: dict[str, Any] = json.loads(out)
        return found
    except subprocess.TimeoutExpired:
        probe.kill()
        probe.communicate()
        return {"error": f"the libraries did not answer within {PROBE_LIMIT_S:g} s"}
    except ValueError:
        last = next((line for line in reversed(words.splitlines()) if line.strip()), f"exit code {probe.returncode}")
        return {"error": printable(last.strip(), limit=300)}
