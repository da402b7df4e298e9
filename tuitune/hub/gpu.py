"""One look at every GPU of the box through NVML (nvidia-ml-py, imported as pynvml): the fields of the `gpu` event.

Used by the hub while a run lives and by the workbench when none does, always in a thread. Every reading may be missing on some card,
driver or container: a failing call blanks that one value (None) and nothing else.
"""

import os
from collections.abc import Callable
from typing import Any

import psutil
import pynvml

from tuitune.text import printable

NO_GPU = "no NVIDIA GPU: training runs on the CPU"

_REASONS = {
    "nvmlClocksEventReasonGpuIdle": "idle",
    "nvmlClocksEventReasonSwPowerCap": "power cap",
    "nvmlClocksThrottleReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksEventReasonSwThermalSlowdown": "thermal",
    "nvmlClocksThrottleReasonHwThermalSlowdown": "thermal (hardware)",
    "nvmlClocksThrottleReasonHwPowerBrakeSlowdown": "power brake",
}


class GpuSampler:
    """`tree_of` is the pid whose process tree counts as ours. A sample takes some 40 µs a GPU plus 1 ms for the process tree."""

    def __init__(self, tree_of: int | None = None) -> None:
        self.tree_of = tree_of
        self._error: str | None = None
        self._handles: list[tuple[int, Any]] = []
        self._driver: str | None = None
        self._pids_known = False  # whether NVML speaks of our processes by the pids that we know them by
        try:
            pynvml.nvmlInit()
            self._driver = _text(_ask(pynvml.nvmlSystemGetDriverVersion))
            handles = [_ask(pynvml.nvmlDeviceGetHandleByIndex, index) for index in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError as error:
            self._error = _explain(error)
        else:
            self._handles = [(index, handle) for index, handle in enumerate(handles) if handle is not None]
            lost = len(handles) - len(self._handles)
            if lost:
                self._error = f"{lost} of {len(handles)} GPUs do not answer (fallen off the bus?); `nvidia-smi` should say more"
            elif not handles:
                self._error = NO_GPU

    def sample(self) -> dict[str, Any]:
        """{"devices": […], "driver", "error"}: memory in bytes, power in watts, clocks in MHz, temperature in °C, util in per cent."""
        ours = self._our_pids() if self._handles else set()
        return {
            "devices": [self._device(index, handle, ours) for index, handle in self._handles],
            "driver": self._driver,
            "error": self._error,
        }

    def close(self) -> None:
        """Let NVML go."""
        self._handles = []
        _ask(pynvml.nvmlShutdown)

    def _our_pids(self) -> set[int]:
        if self.tree_of is None:
            return set()
        try:
            return {self.tree_of, *(child.pid for child in psutil.Process(self.tree_of).children(recursive=True))}
        except psutil.Error:
            return set()

    def _device(self, index: int, handle: Any, ours: set[int]) -> dict[str, Any]:
        memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2) or _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
        rates = _ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
        proc_mem, others = self._processes(handle, ours)
        return {
            "index": index,
            "uuid": _text(_ask(pynvml.nvmlDeviceGetUUID, handle)),
            "name": _text(_ask(pynvml.nvmlDeviceGetName, handle)),
            "util": rates.gpu if rates else None,
            "mem_used": memory.used if memory else None,
            "mem_total": memory.total if memory else None,
            "proc_mem": proc_mem,
            "others": others,
            "power": _scaled(_ask(pynvml.nvmlDeviceGetPowerUsage, handle), 1000),
            "power_limit": _scaled(_ask(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle), 1000),
            "temp": _ask(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
            "sm_clock": _ask(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_SM),
            "mem_clock": _ask(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_MEM),
            "reasons": _reasons(handle),
            "ecc": _ask(pynvml.nvmlDeviceGetTotalEccErrors, handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC),
        }

    def _processes(self, handle: Any, ours: set[int]) -> tuple[int | None, list[dict[str, Any]]]:
        """(bytes of our tree, or None when NVML does not show it; everybody else on the card)."""
        running = _ask(pynvml.nvmlDeviceGetComputeRunningProcesses, handle)
        if running is None:
            return None, []
        mine = [process.usedGpuMemory for process in running if process.pid in ours]
        self._pids_known = self._pids_known or bool(mine)
        others = [
            {"pid": process.pid, **_owner(process.pid), "mem": process.usedGpuMemory} for process in running if process.pid not in ours
        ]
        # in a container NVML may answer with the host's pids: then ours is not among them, and saying 0 would be wrong
        return (sum(mine) if self._pids_known and None not in mine else None), others


def _owner(pid: int) -> dict[str, str | None]:
    """Who has this pid; "hidden" when nobody here does: it is of another pid namespace, and may even be ours."""
    try:
        process = psutil.Process(pid)
        return {"user": printable(process.username(), limit=32), "name": printable(process.name(), limit=32)}
    except psutil.NoSuchProcess:
        return {"user": None, "name": "hidden"}
    except (psutil.Error, KeyError):
        return {"user": None, "name": None}


def _ask(call: Callable[..., Any], *args: Any) -> Any:
    """The answer of one NVML call, or None: not supported, no permission, card lost, driver too old …"""
    try:
        return call(*args)
    except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError, UnicodeDecodeError):
        return None


def _reasons(handle: Any) -> list[str]:
    bits = _ask(pynvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
    if bits is None:
        bits = _ask(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle) or 0
    return [word for name, word in _REASONS.items() if bits & getattr(pynvml, name, 0)]


def _scaled(value: Any, divisor: int) -> float | None:
    return None if value is None else value / divisor


def _text(value: Any) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _explain(error: Any) -> str:
    """Why NVML does not answer, in one sentence with the remedy."""
    code = getattr(error, "value", None)
    if code == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
        return NO_GPU
    if code == pynvml.NVML_ERROR_DRIVER_NOT_LOADED:
        return "the NVIDIA driver is not loaded: `nvidia-smi` should answer; reboot or `modprobe nvidia`"
    if code == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        return "the NVIDIA driver was updated while loaded (library and kernel module differ): reboot this box"
    if code == pynvml.NVML_ERROR_NO_PERMISSION:
        return f"NVML may not be used here ({os.uname().nodename}): ask for access to /dev/nvidia*"
    return f"NVML does not answer ({error}); `nvidia-smi` should say more"
