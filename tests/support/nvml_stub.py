"""Builds the stand-in for libnvidia-ml.so.1 (nvml_stub.c) and tells how to run a process with it. For tests of our own reading only:
what a real card answers is checked on a real card (tests/bench/gpu.py)."""

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
COMPILER = shutil.which("gcc") or shutil.which("cc")


def build_nvml(folder: Path) -> Path:
    """Compile libnvidia-ml.so.1 into `folder`, which is then good for LD_LIBRARY_PATH."""
    assert COMPILER, "no C compiler"
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, SOURCE], check=True)
    return folder


def nvml_environment(folder: Path, values: Path) -> dict[str, str]:
    """What a process needs to see the cards described in the file `values`."""
    return {"LD_LIBRARY_PATH": str(folder), "NVML_STUB": str(values)}
