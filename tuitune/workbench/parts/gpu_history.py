"""The memory of each GPU over the last two minutes: the GPU panel's charts. Plain data that the event loop fills at 1 Hz."""

from dataclasses import dataclass, field
from time import localtime, strftime

from tuitune.workbench import figures
from tuitune.workbench.gpu_feed import GpuNow, TorchFigures
from tuitune.workbench.gpu_reading import GpuReading
from tuitune.workbench.parts.role_lines import Line
from tuitune.workbench.series import Series
from tuitune.workbench.views.run.figures_of import over_time
from tuitune.workbench.views.run.plot import Memo, PlotLine, Window, plot

SPAN = 120.0  # seconds


@dataclass
class CardHistory:
    """One card: what the device holds and, of that, others' share while no run of ours is on it, else torch's own figures."""

    used: Series = field(default_factory=Series)
    others: Series = field(default_factory=Series)
    reserved: Series = field(default_factory=Series)
    allocated: Series = field(default_factory=Series)
    window: Window = field(default_factory=lambda: Window(span=SPAN))
    memo: Memo = field(default_factory=Memo)

    def take(self, gpu: GpuReading, torch: TorchFigures | None, time: float) -> None:
        """Add what was read at `time`, in unix seconds."""
        values = (gpu.used, memory_of_others(gpu), torch.reserved if torch else None, torch.allocated if torch else None)
        for series, value in zip((self.used, self.others, self.reserved, self.allocated), values):
            if value is not None:
                series.add(time, value)

    def chart(self, width: int, height: int, *, of_run: bool) -> list[Line]:
        """The device's memory; beside it torch's two figures when a run of ours told them, else what others hold.

        Without a heading: the panel's lines above it name the lines and tell their values.
        """
        lines = [PlotLine("device", "two", self.used)]
        if of_run and len(self.reserved):
            lines += [PlotLine("reserved", "one", self.reserved, dotted=True), PlotLine("allocated", "three", self.allocated)]
        elif len(self.others):
            lines.append(PlotLine("others", "one", self.others, dotted=True))
        return plot(over_time("GiB", lines, place=_clock), self.window, width, height + 1, memo=self.memo)[1:]


class Histories(dict[str, CardHistory]):
    """The history of each card by GpuReading.key."""

    def take(self, now: GpuNow, time: float) -> None:
        """Add one moment of the box."""
        for gpu in now.sample.devices:
            self.setdefault(gpu.key, CardHistory()).take(gpu, now.torch.get(gpu.key), time)

    def charts(self, now: GpuNow, width: int, height: int) -> dict[str, list[Line]]:
        """A chart for each card of `now`."""
        return {gpu.key: self[gpu.key].chart(width, height, of_run=bool(now.run)) for gpu in now.sample.devices if gpu.key in self}


def memory_of_others(gpu: GpuReading) -> float | None:
    """What the processes that are not ours hold, None where the driver hides all of it."""
    known = [process.memory for process in gpu.others if process.memory is not None]
    return sum(known) if known or not gpu.others else None


def _clock(time: float | None) -> str:
    return figures.UNKNOWN if time is None else strftime("%H:%M", localtime(time))
