"""What the box adds to the sentence about a fault."""

from pathlib import Path

import pytest

from tuitune.hub import evidence as evidence_module
from tuitune.hub.evidence import evidence
from tuitune.hub.faults import HINTS, Fault
from tuitune.runs.directory import RunDirectory, create_run

GIB = 1 << 30
HOST = {"ram_used": 62 * GIB, "ram_total": 64 * GIB, "tree_rss": 48 * GIB}
STACK = (
    "Fatal Python error: Segmentation fault\n\nCurrent thread 0x1 (most recent call first):\n"
    '  File "/x/.venv/lib/python3.11/site-packages/bitsandbytes/functional.py", line 123 in quantize_4bit\n'
    '  File "<string>", line 3 in f\n'
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setattr(evidence_module, "KERNEL_LOG", tmp_path / "kmsg")
    return create_run(tmp_path, "demo", "name: demo\n")


def said(kind: str, run: RunDirectory, *, host: dict | None = None, stack: str | None = None, since: float = 0.0) -> str:
    return evidence(Fault(kind, "", None, stack), run, host, since)


@pytest.mark.parametrize("kind", ["host_oom", "no_memory"])
def test_when_ram_ran_out_the_ram_at_its_death_is_told(run: RunDirectory, kind: str) -> None:
    assert said(kind, run, host=HOST) == " (62.0 of 64.0 GiB were in use, 48.0 by this run)"
    assert said(kind, run, host={**HOST, "tree_rss": None}) == " (62.0 of 64.0 GiB were in use)"
    assert said(kind, run) == ""


def test_when_the_disk_is_full_it_is_told_what_this_run_keeps_there(run: RunDirectory) -> None:
    assert said("disk_full", run) == ""
    for step in (5, 10):
        folder = run.checkpoints / f"checkpoint-{step}"
        folder.mkdir()
        with (folder / "model.safetensors").open("wb") as file:
            file.truncate(3 * GIB // 2)
    assert said("disk_full", run) == f" (2 checkpoints of this run take 3.0 GiB, in {run.checkpoints})"


def test_a_native_crash_names_the_place_from_the_package_on(run: RunDirectory) -> None:
    assert said("native_crash", run, stack=STACK) == " (in quantize_4bit, bitsandbytes/functional.py:123)"
    in_python = STACK.replace("/x/.venv/lib/python3.11/site-packages/bitsandbytes", "/usr/lib/python3.11/ctypes")
    assert "ctypes/functional.py:123" in said("native_crash", run, stack=in_python)
    assert said("native_crash", run, stack="Fatal Python error: Aborted\n") == ""


@pytest.mark.parametrize("kind", ["cuda_fault", "nccl", "native_crash"])
def test_the_drivers_last_word_since_the_trainer_started_is_told(run: RunDirectory, kind: str) -> None:
    (run.path.parent / "kmsg").write_text(
        "4,1,1000000,-;NVRM: Xid (PCI:0000:01:00): 31, pid=1, an old one\n"
        "6,2,50000000,-;usb 1-1: new device\n"
        "4,3,60000000,-;NVRM: Xid (PCI:0000:01:00): 79, pid=7, GPU has fallen off the bus.\n SUBSYSTEM=pci\ngarbage\n"
    )
    assert said(kind, run, since=40.0) == " (the driver says: Xid (PCI:0000:01:00): 79, pid=7, GPU has fallen off the bus.)"
    assert said(kind, run, since=70.0) == ""


def test_where_nothing_can_be_found_nothing_is_said(run: RunDirectory) -> None:
    for kind in HINTS:
        assert said(kind, run) == "", kind
