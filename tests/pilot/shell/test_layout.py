"""What is on screen at which size, and what the keys show and hide."""

import pytest

from tests.pilot.shell.conftest import workbench
from tuitune.workbench.settings import load_settings, settings_file


def shown(screen) -> str:
    app = screen.app
    parts = {"side": app.explorer.display, "gpu": app.gpu_shown, "panel": app.panel.display, "hints": app._hints.display}
    return " ".join(name for name, on in parts.items() if on)


STEPS = [
    ((120, 40), "", "side gpu hints"),
    ((120, 40), "ctrl+b", "gpu hints"),
    ((120, 40), "alt+3", "side hints"),
    ((120, 40), "ctrl+t", "side gpu panel hints"),
    ((120, 40), "ctrl+t ctrl+t", "side gpu hints"),
    ((120, 40), "ctrl+t f12", "hints"),
    ((120, 40), "ctrl+t f12 f12", "side gpu panel hints"),
    ((200, 50), "", "side gpu hints"),
    ((104, 40), "", "side hints"),
    ((80, 24), "", ""),
    ((80, 24), "ctrl+b", "side"),
    ((80, 24), "ctrl+b ctrl+b", ""),
    ((80, 24), "ctrl+b alt+3", "gpu"),
    ((80, 24), "alt+3 alt+1", "side"),
    ((80, 24), "ctrl+t", "panel"),
    ((80, 24), "ctrl+t ctrl+t", ""),
]


@pytest.mark.parametrize(("size", "keys", "parts"), STEPS)
async def test_keys(folder, size, keys, parts):
    async with workbench(folder, size, folder / "notes.md") as screen:
        await screen.until(lambda: screen.focus == "text")
        await screen.press(keys)
        await screen.until(lambda: shown(screen) == parts)


async def test_on_a_narrow_terminal_opening_a_file_puts_the_explorer_away(folder):
    async with workbench(folder, (80, 24)) as screen:
        assert shown(screen) == "side"
        await screen.press("down down down down enter")
        await screen.until(lambda: screen.tabs == "[train.jsonl]" and shown(screen) == "")


async def test_a_resize_moves_the_parts(folder):
    async with workbench(folder) as screen:
        await screen.pilot.resize_terminal(80, 24)
        await screen.until(lambda: "gpu" not in shown(screen))
        await screen.pilot.resize_terminal(200, 50)
        await screen.until(lambda: shown(screen) == "side gpu hints")


@pytest.mark.parametrize("size", [(20, 5), (40, 10), (60, 15), (79, 23), (300, 100)])
async def test_odd_sizes_draw_without_overflow(folder, size):
    async with workbench(folder, size, folder / "notes.md") as screen:
        await screen.press("ctrl+t ctrl+p")
        await screen.until(lambda: len(screen.lines) == size[1])
        assert all(len(line) <= size[0] for line in screen.lines)
        await screen.press("escape")


async def test_sizes_and_sides_are_kept_for_the_next_time(folder):
    async with workbench(folder) as screen:
        await screen.press("ctrl+t alt+3")
    assert load_settings()[0].panel is True
    assert load_settings()[0].gpu_panel is False


async def test_broken_settings_are_told_and_do_not_matter(folder):
    settings_file().parent.mkdir(parents=True)
    settings_file().write_text("{broken")
    async with workbench(folder) as screen:
        told = "defaults are in force"  # the toast breaks the sentence where the path's length says
        await screen.until(lambda: any(told in text for _, text in screen.app.panel.lines))
        assert shown(screen) == "side gpu hints"


async def test_settings_that_cannot_be_kept_are_told(folder):
    settings_file().parent.parent.mkdir(parents=True, exist_ok=True)
    settings_file().parent.write_text("a file where the folder should be")
    async with workbench(folder) as screen:
        await screen.press("ctrl+t")
        await screen.until("settings are not kept")


async def test_the_status_line_drops_what_does_not_fit(folder):
    async with workbench(folder, (60, 20), folder / "notes.md") as screen:
        await screen.until("notes.md")
        assert len(screen.lines[-1]) <= 60
        assert "F1 commands" in screen.lines[-1]


async def test_no_gpu_is_said(folder):
    """Without NVML the GPU panel and the status bar say that training takes the CPU."""
    async with workbench(folder) as screen:
        feed = screen.app.gpu_feed
        await screen.until(lambda: feed.now.sample.error or feed.now.sample.devices)
        if feed.now.sample.devices:
            pytest.skip("this box has a GPU")
        await screen.until("No NVIDIA GPU: training")
        await screen.until("no GPU: CPU")
