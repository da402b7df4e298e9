"""Only a checkpoint with our mark, and every file at its size, is one to resume from."""

import errno
import json
from hashlib import sha256
from pathlib import Path

import pytest

from tuitune.trainer.checkpoints import MARK, disk_refusal, is_complete, mark_complete


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
