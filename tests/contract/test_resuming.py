"""Before anything of a checkpoint is loaded it is what was written, and the run trains the same weights on the same rows."""

from pathlib import Path

import pytest

from tuitune.errors import UserError
from tuitune.runs.manifest import Manifest
from tuitune.trainer.checkpoints import mark_complete

pytest.importorskip("transformers")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "run-1" / "checkpoints" / "checkpoint-4"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    mark_complete(folder, 4)
    return folder


def test_a_damaged_one_is_refused_with_the_file_and_the_way_out(checkpoint: Path) -> None:
    from tuitune.trainer.resuming import verify

    verify(checkpoint, Manifest("x"), {})
    (checkpoint / "model.safetensors").write_bytes(b"veights")
    with pytest.raises(UserError, match=r"checkpoint-4/model\.safetensors is not what was written there: its sha.*tuitune resume run-1"):
        verify(checkpoint, Manifest("x"), {})
    verify(checkpoint, Manifest("x"), {}, read=True)  # the hub has read it a moment ago
    (checkpoint / "tuitune-ok.json").unlink()
    with pytest.raises(UserError, match="checkpoint-4 was never finished"):
        verify(checkpoint, Manifest("x"), {}, read=True)


def test_other_weights_or_rows_are_refused(checkpoint: Path) -> None:
    from tuitune.trainer.resuming import verify

    manifest = Manifest("x", trainable_sha256="a", data_sha256="b")
    verify(checkpoint, manifest, {"trainable_sha256": "a", "sha256": "b"})
    with pytest.raises(UserError, match="put the recipe's peft: section back"):
        verify(checkpoint, manifest, {"trainable_sha256": "c", "sha256": "b"})
    with pytest.raises(UserError, match="put the data and its settings back"):
        verify(checkpoint, manifest, {"trainable_sha256": "a", "sha256": "c"})
