"""What is free of the host's memory, and how much a piece of work takes at its peak."""

import time
from pathlib import Path

import psutil
import pytest

from tuitune.trainer.host_memory import Rise, free_memory

MIB = 1 << 20


def cgroup(folder: Path, limit: str, used: int = 900 * MIB, cache: int = 100 * MIB) -> tuple[Path, Path]:
    group = folder / "job"
    group.mkdir()
    (folder / "own").write_text("0::/job\n")
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"anon 5\ninactive_file {cache}\n")
    return folder / "own", folder


def test_the_limit_of_the_own_cgroup_counts_and_the_files_it_caches_do_not(tmp_path: Path) -> None:
    assert free_memory(*cgroup(tmp_path, str(1000 * MIB))) == 200 * MIB


def test_without_a_limit_it_is_what_the_box_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 7 * MIB

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    assert free_memory(*cgroup(tmp_path, "max")) == 7 * MIB
    assert free_memory(tmp_path / "none", tmp_path) == 7 * MIB


def test_a_rise_is_seen_though_it_is_gone_at_the_end() -> None:
    with Rise() as rise:
        block = bytearray(b"x") * (64 * MIB)
        time.sleep(0.05)
        del block
    assert 40 * MIB < rise.bytes < 200 * MIB
