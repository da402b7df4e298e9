"""Builds the NVML library for tests (nvml_stub.c) and writes the values it answers with. Needs gcc."""

import os
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml_stub.c")
GIB = 1 << 30
TWO_CARDS = f"""\
driver 580.95.05
count 2
0.name NVIDIA H200
0.uuid GPU-aaaaaaaa-0000
0.util 97
0.mem_used {21 * GIB}
0.mem_total {140 * GIB}
0.power 540250
0.power_limit 700000
0.temp 61
0.sm_clock 1980
0.mem_clock 3201
0.reasons 0x4
0.ecc 0
1.name NVIDIA GeForce RTX 4090
1.uuid GPU-bbbbbbbb-0001
1.util 0
1.mem_used {1 * GIB}
1.mem_total {24 * GIB}
1.power 20000
1.power_limit 450000
1.temp 33
1.sm_clock 210
1.mem_clock 405
1.reasons 0x1
1.ecc error 3
"""
"""An H200 at work and an idle GeForce, which does not support ECC. Processes are added as `0.process PID BYTES` lines."""


def build(folder: Path) -> Path:
    """Compile the stub into `folder`/nvml and return that folder, for LD_LIBRARY_PATH."""
    out = folder / "nvml"
    out.mkdir(parents=True, exist_ok=True)
    library = out / "libnvidia-ml.so.1"
    if not library.exists():
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(SOURCE)], check=True)
    return out


def environment(library: Path, values: Path) -> dict[str, str]:
    """Variables that make a process see the stub's GPUs, with what the file `values` says at each call."""
    return {**os.environ, "LD_LIBRARY_PATH": str(library), "TUITUNE_NVML_STUB": str(values)}
