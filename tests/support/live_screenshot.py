"""`python -m tests.support.live_screenshot WORKSPACE RUN OUT`: the real workbench against a run that trains right now.

Headless (Textual's pilot): opens the run's dashboard, waits until it shows steps, and writes OUT/live-<size>.svg. Then once more in a
real pseudo-terminal, opened and driven by keys, and writes what stood on the screen to OUT/live-terminal.txt.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from tests.support.terminal import Terminal
from tuitune.workbench.app import Workbench

SIZES = ((120, 40), (200, 50), (80, 24))
ROOT = Path(__file__).parents[2]


async def picture(workspace: Path, run: Path, out: Path, size: tuple[int, int]) -> None:
    """One SVG of the dashboard, taken once the header counts steps."""
    app = Workbench(workspace)
    async with app.run_test(size=size) as pilot:
        await app.open_view("run", run)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            await asyncio.sleep(0.5)
            state = getattr(app.editor.active, "run_state", None)
            if state is not None and (state.step or 0) >= 20 and len(state.gpus) > 0:
                break
        await asyncio.sleep(3)
        await pilot.pause()
        (out / f"live-{size[0]}x{size[1]}.svg").write_text(app.export_screenshot(title="tuitune"), encoding="utf-8")


def terminal(workspace: Path, run: Path, out: Path) -> None:
    """The same in a real pseudo-terminal: open the folder, attach to the living run by key, look."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with Terminal([sys.executable, "-m", "tuitune", str(workspace)], size=(120, 40), env={"PYTHONPATH": path}, cwd=ROOT) as screen:
        screen.settle(1.0)
        screen.wait_for("RUNS", 20)
        time.sleep(3)
        screen.send("alt+r")
        shown = screen.wait_for("loss", 30)
        time.sleep(5)
        before = screen.bytes_out
        time.sleep(5)
        shown = screen.screen()
        (out / "live-terminal.txt").write_text(f"{shown}\n\nbytes per second while it trains: {(screen.bytes_out - before) / 5:.0f}\n")


def main() -> None:
    workspace, run, out = (Path(word) for word in sys.argv[1:4])
    for size in SIZES:
        asyncio.run(picture(workspace, run, out, size))
    terminal(workspace, run, out)


if __name__ == "__main__":
    main()
