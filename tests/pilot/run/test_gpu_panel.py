"""The GPU panel: samples only while it is on screen, repaints only the lines that changed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.app import App, ComposeResult

from tests.pilot.run.host import screen_text, until
from tests.support import journals
from tuitune.hub import gpu as hub_gpu
from tuitune.workbench.gpu_feed import GpuFeed, GpuNow
from tuitune.workbench.gpu_reading import read_host, read_sample
from tuitune.workbench.parts.gpu_panel import GpuPanel


class PanelApp(App[None]):
    def __init__(self, feed: GpuFeed) -> None:
        super().__init__()
        self.panel = GpuPanel(feed)

    def compose(self) -> ComposeResult:
        yield self.panel


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[GpuFeed]:
    feed = GpuFeed(tmp_path)
    yield feed
    feed.unwatch()


class OneCard:
    """NVML's place in these tests: a box with one card, as journals.gpu_record draws it."""

    def sample(self) -> dict[str, Any]:
        return journals.gpu_record(0.0)

    def close(self) -> None:
        pass


async def test_before_a_run_the_cards_of_the_box_are_live(feed: GpuFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_gpu, "GpuSampler", OneCard)
    app = PanelApp(feed)
    async with app.run_test(size=(80, 30)) as pilot:
        await until(pilot, lambda: "GPU 0 H200" in screen_text(app), "the card")
        assert "21.0/140 GiB" in screen_text(app)
        assert feed.summary == "GPU 21.0/140 GiB"


async def test_on_this_box_whatever_it_has_is_told(feed: GpuFeed) -> None:
    """The real sampler: a card's name, or the sentence why there is none; and the box itself."""
    app = PanelApp(feed)
    async with app.run_test(size=(80, 30)) as pilot:
        await until(pilot, lambda: "disk free" in screen_text(app), "the box")
        assert "GPU" in screen_text(app)


async def test_nothing_is_sampled_while_the_panel_is_hidden(feed: GpuFeed) -> None:
    app = PanelApp(feed)
    async with app.run_test(size=(80, 30)) as pilot:
        await until(pilot, lambda: feed.watching)
        app.panel.display = False
        await until(pilot, lambda: not feed.watching)
        app.panel.display = True
        await until(pilot, lambda: feed.watching)
    assert not feed.watching, "and nothing after the app has ended"


async def test_only_lines_that_changed_are_painted_again(feed: GpuFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    app = PanelApp(feed)
    async with app.run_test(size=(80, 30)) as pilot:
        sample, host = read_sample(journals.gpu_record(0.0)), read_host(journals.host_record(0.0))
        feed.offer(GpuNow(sample, host, "gsm8k"))
        await until(pilot, lambda: "GPU 0 H200" in screen_text(app))
        painted: list[object] = []
        lines = app.panel._lines
        refresh = lines.refresh
        monkeypatch.setattr(lines, "refresh", lambda *regions, **options: (painted.extend(regions), refresh(*regions, **options))[1])
        feed.offer(GpuNow(sample, host, "gsm8k"))
        warmer = journals.gpu_record(0.0)
        warmer["devices"][0]["temp"] = 62
        feed.offer(GpuNow(read_sample(warmer), host, "gsm8k"))
        await until(pilot, lambda: "62°C" in screen_text(app))
        assert len(painted) == 1
