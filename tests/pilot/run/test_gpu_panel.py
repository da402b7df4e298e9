"""The GPU panel: samples only while it is on screen, repaints only the lines that changed."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from typing import Any

import pytest
from textual.app import App, ComposeResult

from tests.pilot.run.host import screen_text, until
from tests.support import journals
from tuitune.hub import gpu as hub_gpu
from tuitune.workbench import gpu_feed
from tuitune.workbench.gpu_feed import GpuFeed, GpuNow, TorchFigures
from tuitune.workbench.gpu_reading import read_host, read_sample
from tuitune.workbench.hub_figures import HubFigures
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


def charted(app: App[None]) -> bool:
    """Whether dots of a chart are on screen."""
    return any("\u2800" < character <= "\u28ff" for character in screen_text(app))


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
        await until(pilot, lambda: "GPU 0 H200" in screen_text(app) and "21.0/140 GiB" in screen_text(app), "the card")
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
        assert len(painted) <= 1 + 4, "the line of the temperature and, of the chart, what the new point changed"


async def test_before_a_run_the_memory_of_the_device_and_of_others_is_a_chart(feed: GpuFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_feed, "STALE", 1000.0)  # on a busy box the panel may take longer to come than figures stay fresh
    app = PanelApp(feed)
    async with app.run_test(size=(80, 34)) as pilot:
        feed.offer(GpuNow(read_sample(journals.gpu_record(0.0, busy=False)), read_host(journals.host_record(0.0))))
        await until(pilot, lambda: charted(app) and "used ━" in screen_text(app), "the chart")
        assert any("others ┅" in line and "10.1 GiB" in line for line in screen_text(app).splitlines())


async def test_beside_our_run_the_chart_has_the_three_numbers(feed: GpuFeed) -> None:
    app = PanelApp(feed)
    async with app.run_test(size=(80, 34)) as pilot:
        sample = read_sample(journals.gpu_record(0.0))
        torch = {sample.devices[0].key: TorchFigures(9.5 * journals.GIB, 6.1 * journals.GIB)}
        feed.offer(GpuNow(sample, read_host(journals.host_record(0.0)), "gsm8k", torch))
        await until(pilot, lambda: charted(app), "the chart", 60)
        for label in ("used ━", "reserved ┅", "allocated ━"):
            assert label in screen_text(app)


async def test_a_sampler_that_breaks_is_told_and_can_be_tried_again(feed: GpuFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("no such driver")

    monkeypatch.setattr(hub_gpu, "GpuSampler", broken)
    app = PanelApp(feed)
    async with app.run_test(size=(80, 30)) as pilot:
        await until(pilot, lambda: "no such driver" in " ".join(app.panel.text().split()), "the reason", 60)
        monkeypatch.setattr(hub_gpu, "GpuSampler", OneCard)
        app.panel.display = False
        await until(pilot, lambda: not feed.watching)
        app.panel.display = True
        await until(pilot, lambda: "GPU 0 H200" in screen_text(app), "the card", 60)


async def test_beside_our_own_run_the_hub_tells_whose_memory_is_whose(
    feed: GpuFeed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever samples without knowing our process tree would list our own trainer among the others."""
    monkeypatch.setattr(hub_gpu, "GpuSampler", OneCard)
    run = journals.write_run(tmp_path, gpus=1, final=None)
    feed.follow([run])
    feed.watch()
    deadline = monotonic() + 60
    while feed.now.run != run.name:
        assert monotonic() < deadline
        sleep(0.02)
    assert feed.now.sample.devices[0].process is not None
    assert feed.now.torch


async def test_a_hub_that_tells_nothing_more_is_not_waited_for(tmp_path: Path) -> None:
    run = journals.write_run(tmp_path, gpus=1, final=None)
    hub = HubFigures(run)
    assert hub.look(Event(), 5.0) is not None
    assert hub.look(Event(), -1.0) is None


def test_hiding_the_panel_does_not_wait_for_a_driver_that_hangs(feed: GpuFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = Event(), Event()

    class Hanging(OneCard):
        def sample(self) -> dict[str, Any]:
            asked.set()
            answer.wait(60)
            return super().sample()

    monkeypatch.setattr(hub_gpu, "GpuSampler", Hanging)
    feed.watch()
    assert asked.wait(60)
    before = monotonic()
    feed.unwatch()
    assert monotonic() - before < 30, "it waits for no sampler that hangs"
    answer.set()
