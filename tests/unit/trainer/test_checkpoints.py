"""Only a checkpoint with our mark, and every file at its size, is one to resume from."""

import errno
import json
import threading
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuitune.runs.checkpoints import MARK, is_complete
from tuitune.trainer import saving as saving_module
from tuitune.trainer.checkpoints import disk_refusal, mark_complete
from tuitune.trainer.control import controlled


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    (tmp_path / "rng").mkdir()
    (tmp_path / "model.safetensors").write_bytes(b"x" * 1000)
    (tmp_path / "rng" / "state.pth").write_bytes(b"y" * 10)
    return tmp_path


def test_the_mark_names_every_file_with_size_and_hash(checkpoint: Path) -> None:
    assert not is_complete(checkpoint)
    assert mark_complete(checkpoint, step=7) == 1010
    assert is_complete(checkpoint)
    document = json.loads((checkpoint / MARK).read_text())
    assert document["step"] == 7
    assert document["files"]["model.safetensors"] == {"bytes": 1000, "sha256": sha256(b"x" * 1000).hexdigest()}
    assert set(document["files"]) == {"model.safetensors", "rng/state.pth"}


def test_marking_again_does_not_count_the_mark_itself(checkpoint: Path) -> None:
    mark_complete(checkpoint, step=7)
    assert mark_complete(checkpoint, step=7) == 1010


@pytest.mark.parametrize("damage", ["shorter", "gone", "mark cut off", "mark of another kind"])
def test_a_damaged_checkpoint_is_not_complete(checkpoint: Path, damage: str) -> None:
    mark_complete(checkpoint, step=7)
    if damage == "shorter":
        (checkpoint / "model.safetensors").write_bytes(b"x" * 999)
    elif damage == "gone":
        (checkpoint / "rng" / "state.pth").unlink()
    elif damage == "mark cut off":
        mark = checkpoint / MARK
        mark.write_bytes(mark.read_bytes()[:-20])
    else:
        (checkpoint / MARK).write_text('{"files": [1]}')
    assert not is_complete(checkpoint)


def test_a_refusing_disk_is_told_from_other_faults_whichever_library_writes() -> None:
    class SafetensorError(Exception):
        pass

    assert disk_refusal(OSError(errno.ENOSPC, "No space left on device")) == "No space left on device"
    assert disk_refusal(SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"))
    assert disk_refusal(RuntimeError("PytorchStreamWriter failed writing file data/0"))
    assert disk_refusal(RuntimeError("CUDA error: an illegal memory access")) is None
    assert disk_refusal(ValueError("x")) is None


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT, errno.EIO, errno.EPIPE])
def test_other_faults_of_the_file_system_are_no_refusal_of_the_disk(number: int) -> None:
    assert disk_refusal(OSError(number, "x")) is None


class Plain:
    """As much of a Trainer as saving needs."""

    def __init__(self, folder: Path) -> None:
        self.args = SimpleNamespace(world_size=1, output_dir=str(folder), should_save=True)
        self.state = SimpleNamespace(global_step=1)

    def train(self, resume_from_checkpoint: None) -> None:
        self._save_checkpoint()

    def _save_checkpoint(self) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"x" * 10)


def saving(tmp_path: Path) -> tuple[Any, list[dict[str, Any]]]:
    """A controlled trainer and its journal."""
    told: list[dict[str, Any]] = []
    trainer = controlled(Plain)(tmp_path)
    journal = SimpleNamespace(emit=lambda event, **fields: told.append({"ev": event, **fields}))
    trainer.telemetry = SimpleNamespace(journal=journal, phase=lambda _: nullcontext(), tokens=0)
    return trainer, told


def test_hashing_does_not_hold_up_the_training_and_the_event_comes_with_the_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr(saving_module, "mark_complete", lambda folder, step: gate.wait(20) and mark_complete(folder, step))
    trainer, told = saving(tmp_path)
    trainer._save_checkpoint()
    assert (told, trainer.saved_step, is_complete(tmp_path / "checkpoint-1")) == ([], 1, False)
    gate.set()
    trainer.state.global_step = 2
    trainer.train()
    assert [(record["step"], record["complete"]) for record in told] == [(1, True), (2, True)]
    assert is_complete(tmp_path / "checkpoint-2"), "train returns when the last mark is there"


def test_a_full_disk_costs_the_mark_and_another_fault_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = OSError(errno.ENOSPC, "full")

    def refuse(folder: Path, step: int) -> int:
        raise error

    monkeypatch.setattr(saving_module, "mark_complete", refuse)
    trainer, told = saving(tmp_path)
    trainer.train()
    assert [(record["complete"], record["error"]) for record in told] == [(False, "full")]
    assert not (tmp_path / "checkpoint-1").exists()
    error = OSError(errno.EACCES, "not yours")
    with pytest.raises(OSError, match="not yours"):
        trainer.train()
    assert (tmp_path / "checkpoint-1").exists(), "nothing is deleted that may be all there is"
