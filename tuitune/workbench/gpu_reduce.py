"""The records about hardware, taken into a RunState: GPUs, the box, torch's own figures of its memory.

Called by run_reduce.py; nothing raises whatever a record holds. Nothing of Textual, no files, no threads.
"""

import math
from collections.abc import Mapping
from typing import Any

from tuitune.workbench.gpu_reading import read_host, read_sample
from tuitune.workbench.record_fields import finite
from tuitune.workbench.run_state import GpuHistory, RunState, TorchMemory


def take_gpus(state: RunState, record: Mapping[str, Any], time: float) -> None:
    """`gpu`: one look at all cards."""
    sample = read_sample(record)
    state.gpu_now = sample
    now = time - (state.origin or 0.0)
    for reading in sample.devices:
        history = state.gpus.get(reading.key)
        if history is None:
            if len(state.gpus) >= 64:
                continue
            history = state.gpus[reading.key] = GpuHistory(reading)
        history.now = reading
        for series, value in (
            (history.used, reading.used),
            (history.process, reading.process),
            (history.util, reading.util),
            (history.power, reading.power),
            (history.temperature, reading.temperature),
        ):
            if value is not None and math.isfinite(value):
                series.add(now, value)


def take_host(state: RunState, record: Mapping[str, Any], time: float) -> None:
    """`host`: the box's memory and the run's own."""
    state.host_now = read_host(record)
    now = time - (state.origin or 0.0)
    for series, value in ((state.ram, state.host_now.ram_used), (state.tree_rss, state.host_now.tree_rss)):
        if value is not None and math.isfinite(value):
            series.add(now, value)


def take_torch_memory(state: RunState, memory: Any, now: float) -> None:
    """`mem` of a metrics record: one mapping of numbers, one mapping of lists, or a list of mappings, one per device."""
    for index, entry in enumerate(_per_device(memory)[:64]):
        while len(state.torch) <= index:
            state.torch.append(TorchMemory())
        device = state.torch[index]
        for series, key in (
            (device.allocated, "alloc"),
            (device.reserved, "reserved"),
            (device.peak_allocated, "peak_alloc"),
            (device.peak_reserved, "peak_reserved"),
        ):
            value = finite(entry.get(key))
            if value is not None:
                series.add(now, value)


def _per_device(memory: Any) -> list[Mapping[str, Any]]:
    if isinstance(memory, list):
        return [entry if isinstance(entry, Mapping) else {} for entry in memory]
    if not isinstance(memory, Mapping):
        return []
    lists = {key: value for key, value in memory.items() if isinstance(value, list)}
    if not lists:
        return [memory]
    return [{key: value[index] for key, value in lists.items() if index < len(value)} for index in range(max(map(len, lists.values())))]
