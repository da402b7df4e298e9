"""Whether a logout ends a hub that is started here, and the systemd scope that it does not reach.

systemd-logind can be told to end everything that a login session has started (KillUserProcesses), own sessions of the kernel's or not. What
the user's own systemd has started is spared, as long as that lives on after the last logout: `loginctl enable-linger`. So there the hub is
started by `systemd-run --user --scope`, which becomes the hub itself: same process, same files, no terminal.
"""

import os
import pwd
import re
import subprocess
from pathlib import Path

ANSWER_S = 2.0
CGROUP = Path("/proc/self/cgroup")
_MANAGER = ["busctl", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"]
_SCOPE = ["systemd-run", "--user", "--scope", "--quiet", "--collect"]


def scope(what: str) -> list[str]:
    """What stands before a command so that it survives the logout; nothing where it does anyway, or cannot: `threat` says so then."""
    if not ends_at_logout() or not _lingers() or _ask([*_SCOPE, "true"]) is None:
        return []
    return [*_SCOPE, f"--description={what}", "--"]


def threat(cgroup: Path | None = None) -> str | None:
    """The sentence that warns of it, or None. Asks logind, some 20 ms; a box without systemd has nothing to ask."""
    if not ends_at_logout(cgroup):
        return None
    ends = "this box ends all processes of a login session when you log out (KillUserProcesses of logind), runs among them: "
    if _lingers():
        return (
            f"{ends}keep the session open; your own systemd, which could keep a run, did not take it (`systemd-run --user --scope true` "
            "says why)"
        )
    return f"{ends}keep the session open, or run `loginctl enable-linger` once: what is started after that survives a logout"


def ends_at_logout(cgroup: Path | None = None) -> bool:
    """Whether this process is part of a login session that logind will end."""
    try:
        session = re.search(r"/session-[^/]+\.scope", (cgroup or CGROUP).read_text(errors="replace"))
    except OSError:
        return False
    if session is None or _ask([*_MANAGER, "KillUserProcesses"]) != "b true":
        return False
    only, spared = (_ask([*_MANAGER, name]) or "" for name in ("KillOnlyUsers", "KillExcludeUsers"))  # as 1 "root"
    return f'"{_user()}"' not in spared and ('"' not in only or f'"{_user()}"' in only)


def _lingers() -> bool:
    return _ask(["loginctl", "show-user", str(os.getuid()), "--property=Linger", "--value"]) == "yes"


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""


def _ask(command: list[str]) -> str | None:
    """What a command prints; None when it is not there, fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
