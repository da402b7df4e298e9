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
    """`sample` takes some 50 µs a GPU plus the owners' names; `tree_of` is the pid whose process tree counts as ours."""

    def __init__(self, tree_of: int | None = None) -> None:
        self.tree_of = tree_of
        self._error: str | None = None
        self._handles: list[Any] = []
        self._driver: str | None = None
        self._owners: dict[int, tuple[str | None, str | None]] = {}
        try:
            pynvml.nvmlInit()
            self._driver = _text(pynvml.nvmlSystemGetDriverVersion())
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError as error:
            self._error = _explain(error)
        else:
            if not self._handles:
                self._error = NO_GPU

    def sample(self) -> dict[str, Any]:
        """{"devices": […], "driver", "error"}: memory in bytes, power in watts, clocks in MHz, temperature in °C, util in per cent."""
        ours = self._our_pids()
        return {
            "devices": [self._device(index, handle, ours) for index, handle in enumerate(self._handles)],
            "driver": self._driver,
            "error": self._error,
        }

    def close(self) -> None:
        """Let NVML go."""
        if self._handles:
            try:
                pynvml.nvmlShutdown()
            except pynvml.NVMLError:
                pass  # the driver is gone already: there is nothing left to let go
            self._handles = []

    def _our_pids(self) -> set[int]:
        if self.tree_of is None:
            return set()
        try:
            return {self.tree_of, *(child.pid for child in psutil.Process(self.tree_of).children(recursive=True))}
        except psutil.Error:
            return set()

    def _device(self, index: int, handle: Any, ours: set[int]) -> dict[str, Any]:
        memory = _ask(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)) or _ask(
            lambda: pynvml.nvmlDeviceGetMemoryInfo(handle)
        )
        rates = _ask(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle))
        proc_mem, others = self._processes(handle, ours)
        return {
            "index": index,
            "uuid": _text(_ask(lambda: pynvml.nvmlDeviceGetUUID(handle))),
            "name": _text(_ask(lambda: pynvml.nvmlDeviceGetName(handle))),
            "util": rates.gpu if rates else None,
            "mem_used": memory.used if memory else None,
            "mem_total": memory.total if memory else None,
            "proc_mem": proc_mem,
            "others": others,
            "power": _scaled(_ask(lambda: pynvml.nvmlDeviceGetPowerUsage(handle)), 1000),
            "power_limit": _scaled(_ask(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle)), 1000),
            "temp": _ask(lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
            "sm_clock": _ask(lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)),
            "mem_clock": _ask(lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM)),
            "reasons": _reasons(handle),
            "ecc": _ask(
                lambda: pynvml.nvmlDeviceGetTotalEccErrors(handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC)
            ),
        }

    def _processes(self, handle: Any, ours: set[int]) -> tuple[int | None, list[dict[str, Any]]]:
        """(bytes of our tree, or None when NVML does not show it; everybody else on the card)."""
        running = _ask(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(handle))
        if running is None:
            return None, []
        mine = [process.usedGpuMemory for process in running if process.pid in ours]
        others = []
        for process in running:
            if process.pid in ours:
                continue
            user, name = self._owner(process.pid)
            others.append({"pid": process.pid, "user": user, "name": name, "mem": process.usedGpuMemory})
        # in a container NVML may answer with the host's pids: then ours is not among them, and saying 0 would be wrong
        return (sum(mine) if mine and None not in mine else None), others

    def _owner(self, pid: int) -> tuple[str | None, str | None]:
        if pid not in self._owners:
            try:
                process = psutil.Process(pid)
                self._owners[pid] = (printable(process.username(), limit=32), printable(process.name(), limit=32))
            except (psutil.Error, KeyError):
                self._owners[pid] = (None, None)  # in another pid namespace
        return self._owners[pid]


def _ask(call: Callable[[], Any]) -> Any:
    """The answer of one NVML call, or None: not supported, no permission, card lost, driver too old …"""
    try:
        return call()
    except (pynvml.NVMLError, AttributeError, UnicodeDecodeError):
        return None


def _reasons(handle: Any) -> list[str]:
    bits = _ask(lambda: pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    if bits is None:
        bits = _ask(lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)) or 0
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
