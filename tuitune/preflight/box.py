"""What this computer is like: GPUs and who uses them, driver, libraries, limits. Collected once; the checks of environment.py judge it."""

import locale
import os
import resource
import shutil
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

import psutil

from tuitune.hub.gpu import GpuSampler
from tuitune.hub.logout import scope, threat
from tuitune.network import can_reach, hub_host
from tuitune.preflight import libraries
from tuitune.versions import installed


@dataclass
class Box:
    """Memory and disk in bytes. `devices`: of GpuSampler.sample(); `driver_cuda`: the newest CUDA the driver speaks, (major, minor);
    `exclusive`: indices of GPUs that take one process only; `libraries`: of tuitune.trainer.probe, with "error" when it failed."""

    devices: list[dict[str, Any]] = field(default_factory=list)
    nvml_error: str | None = None
    driver: str | None = None
    driver_cuda: tuple[int, int] | None = None
    exclusive: list[int] = field(default_factory=list)
    libraries: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str | None] = field(default_factory=dict)
    memory: int = 0
    memory_free: int = 0
    shared_memory: int | None = None
    open_files: int = 0
    compiler: bool = True
    python_headers: bool = True
    encoding: str = "utf-8"
    clock: float = 0.0  # seconds since 1970
    logout: str | None = None  # the sentence that a logout ends runs here
    environment: Mapping[str, str] = field(default_factory=dict)
    disk_free: Callable[[Path], int | None] = lambda path: None
    reaches_hub: Callable[[], str | None] = lambda: None


def look_at_box(anew: bool = False) -> Box:
    """This box; never raises. The libraries' imports take seconds, unless they have answered not long ago; `anew`: ask them again."""
    sampler = GpuSampler()
    sample = sampler.sample()
    versions = installed()
    kept = libraries.place(versions, sample["driver"], sample["error"], [device.get("uuid") for device in sample["devices"]])
    known = None if anew else libraries.remembered(kept)
    asked = libraries.start_probe() if known is None else None
    memory = psutil.virtual_memory()
    box = Box(
        devices=sample["devices"],
        nvml_error=sample["error"],
        driver=sample["driver"],
        driver_cuda=_driver_cuda(),
        exclusive=[device["index"] for device in sample["devices"] if _exclusive(device["index"])],
        versions=versions,
        memory=memory.total,
        memory_free=memory.available,
        shared_memory=_size_of("/dev/shm"),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        compiler=any(shutil.which(name) for name in ("cc", "gcc", "clang")),
        python_headers=(Path(sysconfig.get_paths()["include"]) / "Python.h").exists(),
        encoding=locale.getpreferredencoding(False),
        clock=time(),
        logout=None if scope("") else threat(),
        environment=dict(os.environ),
        disk_free=disk_free,
        reaches_hub=reaches_hub,
    )
    sampler.close()
    if asked is not None:
        known = asked()
        libraries.remember(kept, known)
    box.libraries = known or {}
    return box


def disk_free(path: Path) -> int | None:
    """Free bytes for this user where `path` is or will be."""
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None


def reaches_hub() -> str | None:
    """None when the Hub may be asked; else why not."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "HF_HUB_OFFLINE is set"
    host = hub_host(os.environ)
    return None if host is None or can_reach(host) else f"{host} cannot be reached from here"


def _driver_cuda() -> tuple[int, int] | None:
    import pynvml

    try:
        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetCudaDriverVersion_v2()  # 13020: CUDA 13.2
        return version // 1000, version % 1000 // 10
    except pynvml.NVMLError:
        return None


def _exclusive(index: int) -> bool:
    import pynvml

    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        return bool(pynvml.nvmlDeviceGetComputeMode(handle) == pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS)
    except pynvml.NVMLError:
        return False


def _size_of(folder: str) -> int | None:
    try:
        return shutil.disk_usage(folder).total
    except OSError:
        return None
