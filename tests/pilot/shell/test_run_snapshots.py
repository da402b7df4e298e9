"""Pictures of a run's views. Each docstring says what must be seen; update with --snapshot-update after looking at the report."""

from pathlib import Path

from tests.pilot.run.host import Host, screen_text, until
from tests.support import journals
from tuitune.workbench.views.run_dashboard import RunDashboard


def test_why_slow(tmp_path: Path, snap_compare) -> None:
    """80×24: each cause behind its cost, red from a fifth of the time on, what to change in colour below it, MFU with its formula last."""
    view = RunDashboard(journals.write_run(tmp_path, gpus=1, waits=True))
    view.pace.period = 0.02
    app = Host(view)

    async def before(pilot) -> None:
        await until(pilot, lambda: "MFU 5 %" in screen_text(app), "the line")
        await pilot.press("w")
        await until(pilot, lambda: "(HFU)" in screen_text(app), "the page")

    assert snap_compare(app, terminal_size=(80, 24), run_before=before)
