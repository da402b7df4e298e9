"""Opens the workbench on the terminal: what the command line calls. Textual is imported inside, so that this module costs nothing."""

import os
import signal
import sys
from pathlib import Path
from types import FrameType

from tuitune.errors import UserError
from tuitune.workbench.settings import load_settings

# Textual's names for colour depths; it reads them once, when it is imported.
COLOR_SYSTEMS = {"16": "standard", "256": "256", "truecolor": "truecolor"}


def run_workbench(directory: Path, open_path: Path | None = None, mouse: bool = True, colors: str | None = None, slow: bool = False) -> int:
    """Show the workbench on `directory` until the user leaves; returns the exit code.

    open_path: a recipe (or another file) to open first. mouse: False leaves the mouse to the terminal. colors: "16", "256",
    "truecolor", or None for what the terminal says; NO_COLOR is honoured. slow: live figures every other second and at most 15 pictures a
    second, for a line that carries little (also where the settings call the line slow); a line that blocks or answers late is noticed
    without it. With TUITUNE_WARM_UP=0 in the environment the
    analyst is started when it is first needed, and not with the workbench. UserError when there is no terminal to draw on.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError("the workbench needs a terminal; without one use `tuitune train`, `tuitune validate`, `tuitune runs`", exit_code=2)
    if os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        raise UserError(
            "this terminal (TERM is not set, or dumb) cannot draw a workbench; `tuitune train RECIPE --plain` prints lines", exit_code=2
        )
    if colors is not None:
        os.environ["TEXTUAL_COLOR_SYSTEM"] = COLOR_SYSTEMS[colors]
    if slow or load_settings()[0].line == "slow":
        os.environ.setdefault("TEXTUAL_FPS", "15")
    from tuitune.workbench.app import Workbench

    app = Workbench(directory, open_path, slow=slow, warm_up=os.environ.get("TUITUNE_WARM_UP") != "0")

    def leave(number: int, _frame: FrameType | None) -> None:
        app.leave_at_once(128 + number)

    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, leave)
    app.run(mouse=mouse)
    return app.return_code or 0
