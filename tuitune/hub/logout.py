"""Whether a logout ends this hub: systemd can be told to end everything that a login session has started, own sessions or not."""

import re
import subprocess
from pathlib import Path

ANSWER_S = 2.0
_MANAGER = ["busctl", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"]


def threat(cgroup: Path = Path("/proc/self/cgroup")) -> str | None:
    """The sentence that warns of it, or None. Asks logind, some 20 ms; a box without systemd has nothing to ask."""
    try:
        session = re.search(r"/session-[^/]+\.scope", cgroup.read_text(errors="replace"))
    except OSError:
        return None
    if session is None or _ask([*_MANAGER, "KillUserProcesses"]) != "b true":
        return None
    return (
        "this box ends all processes of a login session when you log out (KillUserProcesses of logind), this run among them: keep the "
        "session open, or run `loginctl enable-linger` once and start runs with `systemd-run --user --scope tuitune train …`"
    )


def _ask(command: list[str]) -> str:
    """What a command prints; "" when it is not there, fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
