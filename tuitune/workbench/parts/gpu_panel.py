"""The side bar on the right: each GPU's memory, load, temperature, power and clocks, and the box. Live before a run, too.

Repaints only lines whose text changed. The figures come from gpu_feed; the lines are made by plain functions below.
"""

from collections.abc import Mapping
from time import time

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.events import Hide, Show
from textual.message import Message

from tuitune.workbench import figures
from tuitune.workbench.gpu_feed import GpuFeed, GpuNow, TorchFigures
from tuitune.workbench.gpu_reading import GpuReading, HostReading
from tuitune.workbench.pace import Pace
from tuitune.workbench.parts.gpu_history import Histories, memory_of_others
from tuitune.workbench.parts.role_lines import Line, RoleLines, bar

WIDTH = 30
CHART_ROWS = 5


class GpuPanel(VerticalScroll, can_focus=False):
    """Samples only while it is on screen. `feed` may be shared with the status bar; without one the panel makes its own."""

    DEFAULT_CSS = f"""
    GpuPanel {{ width: {WIDTH}; height: 1fr; padding: 0 1; scrollbar-size-vertical: 1; overflow-x: hidden; }}
    """

    class Changed(Message):
        """New figures have arrived."""

    def __init__(self, feed: GpuFeed | None = None, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.feed = feed or GpuFeed()
        self.feed.listen(self._new_figures)
        self._lines = RoleLines()
        self._histories = Histories()
        self._pace = Pace()

    def compose(self) -> ComposeResult:
        yield self._lines

    def on_mount(self) -> None:
        self._pace.link = getattr(self.app, "link", self._pace.link)
        self._paint()
        if self.display:
            self.feed.watch()

    def on_show(self, event: Show) -> None:
        self.feed.watch()

    def on_hide(self, event: Hide) -> None:
        self.feed.unwatch()

    def on_unmount(self) -> None:
        self.feed.unlisten(self._new_figures)
        self.feed.unwatch()

    def on_resize(self) -> None:
        self._paint()

    def on_gpu_panel_changed(self) -> None:
        self._histories.take(self.feed.now, time())
        if not self._pace.link.slow or self._pace.wait() <= 0:  # else the next figures show it: they come every second
            self._paint()

    def _new_figures(self) -> None:
        self.post_message(self.Changed())

    def _paint(self) -> None:
        self._pace.painted()
        width = max(16, self.content_size.width or WIDTH - 2)
        self._lines.show(panel_lines(self.feed.now, width, self._histories.charts(self.feed.now, width, CHART_ROWS)))

    def text(self) -> str:
        """What the panel shows, as text."""
        return self._lines.text()


def panel_lines(now: GpuNow, width: int, charts: Mapping[str, list[Line]] | None = None) -> list[Line]:
    """Everything the panel shows, `width` cells wide; `charts` by the key of the card."""
    lines: list[Line] = []
    for device in now.sample.devices:
        lines += gpu_lines(device, now.torch.get(device.key), width, of_run=bool(now.run))
        lines += (charts or {}).get(device.key, [])
        lines.append(())
    if not now.sample.devices and now.sample.error:
        sentence = now.sample.error[:1].upper() + now.sample.error[1:]
        lines += [*wrapped(sentence if sentence.endswith(".") else f"{sentence}.", width, "warn" if "CPU" not in sentence else ""), ()]
    elif not now.sample.devices:
        lines += [(("Looking for GPUs …", "dim"),), ()]
    return lines + host_lines(now.host, width)


def gpu_lines(gpu: GpuReading, torch: TorchFigures | None, width: int, *, of_run: bool) -> list[Line]:
    """One GPU: name, memory bar with what is ours and what is others', then load, heat, power and clocks."""
    name = gpu.name.removeprefix("NVIDIA ").removeprefix("GeForce ")
    ours = gpu.process if of_run else None
    others = memory_of_others(gpu) if ours is None or gpu.used is None else max(0.0, gpu.used - ours)
    # ━ and ┅ are the lines of the chart below
    parts = [(ours, "one", "█"), (others, "two", "▚")] if ours is not None else [(gpu.used, "two", "▚")]
    lines: list[Line] = [
        ((f"GPU {gpu.index} ", "title"), (name, "title")),
        bar(width, parts, gpu.total),
        _pair("used ━", f"{figures.gib(gpu.used)}/{figures.gib(gpu.total)} GiB", width, "two"),
    ]
    if of_run:
        lines.append(_pair("█ this run", figures.size(ours) if ours is not None else "hidden here", width, "one"))
        if torch is not None:
            lines.append(_pair("   reserved ┅", figures.size(torch.reserved), width, "one"))
            lines.append(_pair("   allocated ━", figures.size(torch.allocated), width, "three"))
    if others or gpu.others:
        lines.append(_pair("▚ others" if of_run else "others ┅", figures.size(others), width, "two" if of_run else "one"))
    for process in gpu.others[:4]:
        lines.append(_pair(f"   {process.user} {process.name}", figures.size(process.memory), width))
    if len(gpu.others) > 4:
        lines.append(((f"   and {len(gpu.others) - 4} more", "dim"),))
    hot = gpu.temperature is not None and gpu.temperature >= 85
    lines.append((("util ", "dim"), (figures.percent(gpu.util), ""), ("   ", ""), (_unit(gpu.temperature, "°C"), "warn" if hot else "")))
    lines.append((("power ", "dim"), (f"{_unit(gpu.power)}/{_unit(gpu.power_limit)} W", "")))
    lines.append((("clock ", "dim"), (f"{_unit(gpu.sm_clock)} MHz", ""), (" mem ", "dim"), (f"{_unit(gpu.memory_clock)}", "")))
    if gpu.reasons:
        lines += wrapped(f"limited by: {', '.join(gpu.reasons)}", width, "dim" if gpu.reasons == ("idle",) else "warn")
    if gpu.ecc:
        lines.append(((f"{gpu.ecc:.0f} ECC errors", "error"),))
    return lines


def host_lines(host: HostReading, width: int) -> list[Line]:
    """CPU, memory and disk of the box."""
    if host.cpu is None and host.ram_total is None:
        return []
    others = None if host.ram_used is None else max(0.0, host.ram_used - (host.tree_rss or 0))
    lines: list[Line] = [
        (("BOX", "title"),),
        _pair("cpu", figures.percent(host.cpu), width),
        bar(width, [(host.cpu, "three", "█")], 100),
        _pair("RAM", f"{figures.gib(host.ram_used)}/{figures.gib(host.ram_total)} GiB", width),
        bar(width, [(host.tree_rss, "one", "█"), (others, "two", "▚")], host.ram_total),
    ]
    if host.tree_rss:
        lines.append(_pair("█ this run", figures.size(host.tree_rss), width, "one"))
    low = host.disk_free is not None and host.disk_free < 5 << 30
    lines.append(_pair("disk free", figures.size(host.disk_free), width, value_role="warn" if low else ""))
    return lines


def wrapped(text: str, width: int, role: str) -> list[Line]:
    """A sentence over as many lines as it needs."""
    lines: list[Line] = []
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(((line, role),))
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, ((line, role),)] if line else lines


def _pair(label: str, value: str, width: int, label_role: str = "dim", value_role: str = "") -> Line:
    """A label at the left and its value at the right edge."""
    room = max(1, width - len(value) - 1)
    label = label if len(label) <= room else label[: room - 1] + "…"
    gap = " " * max(1, width - len(label) - len(value))
    return ((label, label_role), (gap, ""), (value, value_role))


def _unit(value: float | None, unit: str = "") -> str:
    return figures.UNKNOWN if value is None else f"{value:.0f}{unit}"
