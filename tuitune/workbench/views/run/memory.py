"""GPU memory of a run: device used ≥ this process ≥ torch reserved ≥ torch allocated, and the names of the gaps. Pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuitune.workbench import figures
from tuitune.workbench.gpu_feed import TorchFigures
from tuitune.workbench.parts.role_lines import Line, bar
from tuitune.workbench.proof_reading import ProofReading
from tuitune.workbench.run_state import GpuHistory, RunState, TorchMemory
from tuitune.workbench.views.run.planned import peak_pieces, plan_lines, proof_lines
from tuitune.workbench.views.run.several import together_lines

LABELS = {
    "allocated": ("█", "three", "allocated"),
    "cached": ("▓", "one", "cached"),
    "context": ("▒", "title", "context+libraries"),
    "others": ("▚", "two", "others"),
}


@dataclass(frozen=True)
class Gaps:
    """The parts of a card's used memory in bytes; they add up to what the device says is used. None = not known."""

    allocated: float | None
    cached: float | None
    context: float | None
    others: float | None
    hidden: bool  # the driver does not tell whose memory it is: `others` then holds context and others together


@dataclass(frozen=True)
class RunGpu:
    """A GPU the run trains on, with torch's own figures when it told any."""

    gpu: GpuHistory
    torch: TorchMemory | None

    @property
    def gaps(self) -> Gaps:
        """The newest figures as gaps."""
        torch = self.torch
        return gaps(
            self.gpu.now.used, self.gpu.now.process, torch.reserved.last if torch else None, torch.allocated.last if torch else None
        )


def gaps(used: float | None, process: float | None, reserved: float | None, allocated: float | None) -> Gaps:
    """The parts between the numbers. Samples are taken at different moments, so a gap never goes below zero."""
    cached = None if reserved is None or allocated is None else max(0.0, reserved - allocated)
    if process is None:
        rest = None if used is None else max(0.0, used - (reserved or 0.0))
        return Gaps(allocated, cached, None, rest, hidden=True)
    context = max(0.0, process - reserved) if reserved is not None else process
    others = None if used is None else max(0.0, used - process)
    return Gaps(allocated, cached, context, others, hidden=False)


def run_gpus(state: RunState) -> list[RunGpu]:
    """The run's GPUs in torch's order.

    torch numbers devices by CUDA_VISIBLE_DEVICES, NVML by slot: they are matched by the UUIDs of the trainer's hello, else the cards
    on which the driver sees the run's processes in their order, else the first ones.
    """
    cards = list(state.gpus.values())
    if not cards:
        return []
    named = {_plain(history.now.uuid): history for history in cards}
    told = [found for uuid in _told_uuids(state.hello.get("trainer", {})) if (found := named.get(_plain(uuid)))]
    ours = told or [history for history in cards if history.process] or (cards[: len(state.torch)] if state.torch else [])
    return [RunGpu(history, state.torch[index] if index < len(state.torch) else None) for index, history in enumerate(ours)]


def torch_figures(state: RunState) -> dict[str, TorchFigures]:
    """torch's newest figures by card, for the GPU panel."""
    return {
        entry.gpu.now.key: TorchFigures(entry.torch.reserved.last, entry.torch.allocated.last) for entry in run_gpus(state) if entry.torch
    }


def gpu_memory_lines(entry: RunGpu, width: int, proof: ProofReading | None = None) -> list[Line]:
    """One card: name and use, a bar of the parts, plan and peak, and what each part is. `proof`: of the run's longest batch on it."""
    now, parts = entry.gpu.now, entry.gaps
    shown = [(name, value) for name, value in _named(parts) if value is not None]
    lines: list[Line] = [
        ((f"GPU {now.index} ", "title"), (f"{figures.gib(now.used)}/{figures.gib(now.total)} GiB used", "")),
        bar(width, [(value, LABELS[name][1], LABELS[name][0]) for name, value in shown], now.total),
    ]
    peak = entry.torch.peak_allocated.last if entry.torch else None
    lines += plan_lines(proof, peak) if proof else []
    if entry.torch and entry.torch.peak_reserved.last is not None:
        reserved = figures.size(entry.torch.peak_reserved.last)
        more = peak_pieces(proof, peak)
        lines.append((("peak ", "dim"), (figures.size(peak), ""), *more, (" allocated, ", "dim"), (reserved, ""), (" reserved", "dim")))
    lines += _legend(shown, parts.hidden, width)
    for process in now.others[:2]:
        lines.append(((f"   {process.user} {process.name} ", "dim"), (figures.size(process.memory), "dim")))
    return lines


def _legend(shown: Sequence[tuple[str, float]], hidden: bool, width: int) -> list[Line]:
    """What each part of the bar is, two in a line where they fit: there are few lines."""
    lines: list[Line] = []
    for name, value in shown:
        glyph, role, label = LABELS[name]
        if name == "others" and hidden:
            label = "context and others (driver hides whose)"
        part: Line = ((f"{glyph} ", role), (figures.size(value), ""), (f" {label}", "dim"))
        used = sum(len(text) for text, _ in lines[-1]) if lines else width
        column = max(used + 2, width // 2)
        if len(lines) and len(lines[-1]) == len(part) and column + sum(len(text) for text, _ in part) <= width:
            lines[-1] = (*lines[-1], (" " * (column - used), ""), *part)
        else:
            lines.append(part)
    return lines


def cpu_memory_lines(state: RunState, width: int) -> list[Line]:
    """A run on the CPU: the box's memory and the run's own."""
    host = state.host_now
    others = None if host.ram_used is None else max(0.0, host.ram_used - (host.tree_rss or 0.0))
    peak = max(state.tree_rss.ys, default=None)
    return [
        (("CPU run  ", "title"), (f"{figures.gib(host.ram_used)}/{figures.gib(host.ram_total)} GiB RAM used", "")),
        bar(width, [(host.tree_rss, "one", "█"), (others, "two", "▚")], host.ram_total),
        (("█ ", "one"), (figures.size(host.tree_rss), ""), (" this run (RSS), peak ", "dim"), (figures.size(peak), "")),
        (("▚ ", "two"), (figures.size(others), ""), (" others and the system", "dim")),
        (("cpu ", "dim"), (figures.percent(host.cpu), ""), ("  disk free ", "dim"), (figures.size(host.disk_free), "")),
    ]


def memory_lines(state: RunState, width: int, first: int = 0) -> list[Line]:
    """What the memory table of the dashboard says: all cards together, the run's `first`-th card, then the others."""
    entries = run_gpus(state)
    first = first % len(entries) if entries else 0
    alone = state.proof if len(entries) == 1 else None  # one process proves one card
    lines = together_lines([entry.gpu.now for entry in entries])
    lines += [line for entry in (*entries[first:], *entries[:first]) for line in gpu_memory_lines(entry, width, alone)]
    return [*lines, *(proof_lines(alone) if alone else [])] or cpu_memory_lines(state, width)


def _named(parts: Gaps) -> tuple[tuple[str, float | None], ...]:
    return (("allocated", parts.allocated), ("cached", parts.cached), ("context", parts.context), ("others", parts.others))


def _told_uuids(hello: Mapping[str, Any]) -> list[str]:
    devices = hello.get("devices") or hello.get("gpus")
    if not isinstance(devices, list):
        return []
    found = (device.get("uuid") if isinstance(device, Mapping) else device for device in devices)
    return [uuid for uuid in found if isinstance(uuid, str)]


def _plain(uuid: str) -> str:
    return uuid.lower().removeprefix("gpu-")  # torch prints UUIDs without NVML's prefix
