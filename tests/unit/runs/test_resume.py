"""From where a run goes on, and what its manifest says then."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from tuitune.errors import UserError
from tuitune.runs.checkpoints import checkpoints_of, is_complete
from tuitune.runs.directory import RunDirectory, create_run
from tuitune.runs.manifest import Manifest, Process
from tuitune.runs.resume import StartingPoint, begin_attempt, go_back, refusal, starting_point
from tuitune.trainer.checkpoints import mark_complete


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return create_run(tmp_path, "demo", "name: demo\n")


def checkpoint(run: RunDirectory, step: int, *, whole: bool = True) -> Path:
    folder = run.checkpoints / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    if whole:
        mark_complete(folder, step)
    return folder


# --- the starting point -----------------------------------------------------------------------------------------------------------


def test_the_latest_whole_checkpoint_counts_by_its_step_and_not_by_its_name_or_age(run: RunDirectory) -> None:
    for step in (100, 90, 9, 1000):
        checkpoint(run, step, whole=step != 1000)
    for other in ("checkpoint-", "checkpoint-5x", "checkpoint-²", "best", ".checkpoint-2000", "checkpoint--7"):
        (run.checkpoints / other).mkdir()
    (run.checkpoints / "checkpoint-3000").write_text("a file")
    assert [folder.name for folder in checkpoints_of(run)] == ["checkpoint-1000", "checkpoint-100", "checkpoint-90", "checkpoint-9"]
    point = starting_point(run)
    assert (point.checkpoint, point.step) == ("checkpoint-100", 100)
    assert point.words == "from checkpoint-100 (checkpoint-1000 is later, but not whole)"


def test_without_any_checkpoint_it_is_the_beginning(run: RunDirectory) -> None:
    assert starting_point(run) == StartingPoint(None, "from the beginning: it has no checkpoint yet")
    run.checkpoints.rmdir()
    assert starting_point(run).step == 0


def test_when_none_is_whole_they_are_named(run: RunDirectory) -> None:
    for step in range(1, 7):
        checkpoint(run, step, whole=False)
    words = starting_point(run).words
    assert words == (
        "from the beginning: none of its checkpoints is whole (checkpoint-6, checkpoint-5, checkpoint-4, checkpoint-3 and 2 more)"
    )


def test_a_checkpoint_that_lost_a_file_after_it_was_marked_is_not_whole(run: RunDirectory) -> None:
    checkpoint(run, 1)
    (checkpoint(run, 2) / "model.safetensors").write_bytes(b"cut")
    (checkpoint(run, 3) / "model.safetensors").unlink()
    (checkpoint(run, 4) / "tuitune-ok.json").write_text("[]")
    assert starting_point(run).checkpoint == "checkpoint-1"


def same_size(path: Path) -> None:
    """Change a file so that its size does not tell."""
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


def test_one_that_was_changed_after_it_was_marked_is_passed_over_and_it_is_told_which_file_and_how(run: RunDirectory) -> None:
    for step in (1, 2, 3, 4):
        checkpoint(run, step)
    same_size(run.checkpoints / "checkpoint-4" / "model.safetensors")
    (run.checkpoints / "checkpoint-3" / "model.safetensors").write_bytes(b"cut")
    (run.checkpoints / "checkpoint-2" / "model.safetensors").unlink()
    point = starting_point(run, hashes=True)
    assert point.checkpoint == "checkpoint-1"
    written, found = sha256(b"weights").hexdigest()[:12], sha256(b"veights").hexdigest()[:12]
    assert point.passed_over == (
        f"checkpoint-4/model.safetensors is not what was written there: its sha256 is {found}… and was {written}…",
        "checkpoint-3/model.safetensors is not what was written there: it has 3 bytes and had 7",
        "checkpoint-2/model.safetensors is missing",
    )
    assert point.words == "from checkpoint-1 (checkpoint-4, checkpoint-3, checkpoint-2 are later, but not whole)"
    assert starting_point(run).checkpoint == "checkpoint-4", "a glance looks at sizes alone"


def test_when_the_only_one_is_damaged_it_begins_again_and_says_so(run: RunDirectory) -> None:
    same_size(checkpoint(run, 4) / "model.safetensors")
    point = starting_point(run, hashes=True)
    assert point.words == "from the beginning: none of its checkpoints is whole (checkpoint-4)"
    assert len(point.passed_over) == 1


def test_a_checkpoint_that_was_never_finished_has_no_file_to_blame(run: RunDirectory) -> None:
    checkpoint(run, 4, whole=False)
    (checkpoint(run, 5) / "tuitune-ok.json").write_text('{"files": {"model.safetensors": 7}}')
    assert starting_point(run, hashes=True).passed_over == ()


def test_going_back_to_an_earlier_one_sets_the_later_ones_aside(run: RunDirectory) -> None:
    for step in (10, 20, 30):
        checkpoint(run, step, whole=step != 30)
    assert go_back(run, "checkpoint-10") == ["checkpoint-30", "checkpoint-20"]
    assert starting_point(run, hashes=True) == StartingPoint("checkpoint-10", "from checkpoint-10")
    assert sorted(folder.name for folder in (run.checkpoints / "aside").iterdir()) == ["checkpoint-20", "checkpoint-30"]
    checkpoint(run, 20)
    assert go_back(run, "10") == ["checkpoint-20"]
    assert len(list((run.checkpoints / "aside").iterdir())) == 3, "what was set aside before stays"
    assert go_back(run, "checkpoint-10") == []


def test_going_back_to_a_damaged_one_is_refused_and_changes_nothing(run: RunDirectory) -> None:
    for step in (10, 20, 30, 40):
        checkpoint(run, step, whole=step != 30)
    same_size(run.checkpoints / "checkpoint-20" / "model.safetensors")
    before = checkpoints_of(run)
    with pytest.raises(UserError, match=r"^checkpoint-20/model\.safetensors is not what was written there: its sha256 .*; choose another"):
        go_back(run, "checkpoint-20")
    with pytest.raises(UserError, match=r"^checkpoint-30 was never finished; choose another"):
        go_back(run, "checkpoint-30")
    with pytest.raises(UserError, match="has no checkpoint-50; it has checkpoint-40, checkpoint-30, checkpoint-20, checkpoint-10"):
        go_back(run, "50")
    assert checkpoints_of(run) == before


def test_a_folder_that_cannot_be_read_is_told_and_not_taken_for_an_empty_one(run: RunDirectory) -> None:
    run.checkpoints.rmdir()
    run.checkpoints.write_text("")
    with pytest.raises(UserError, match=r"checkpoints cannot be read .*resume the run again"):
        starting_point(run)


def test_a_mark_that_says_it_is_whole_is_believed_by_sizes_alone(run: RunDirectory) -> None:
    folder = checkpoint(run, 1)
    assert is_complete(folder)
    document = json.loads((folder / "tuitune-ok.json").read_text())
    document["files"]["optimizer.pt"] = {"bytes": 5, "sha256": ""}
    (folder / "tuitune-ok.json").write_text(json.dumps(document))
    assert not is_complete(folder)


# --- the manifest -----------------------------------------------------------------------------------------------------------------


def test_a_new_attempt_has_the_next_number_and_forgets_how_the_one_before_ended(run: RunDirectory) -> None:
    manifest = Manifest("demo", state="failed", why="it broke", ended=2.0, step=17, trainer=Process(1, -1), passed_over=["an old one"])
    (run.journal / "trainer-1.jsonl").touch()
    begin_attempt(run, manifest, StartingPoint("checkpoint-10", "", ("checkpoint-20/x is missing",)))
    assert manifest.passed_over == ["checkpoint-20/x is missing"]
    assert (manifest.attempt, manifest.resume_from, manifest.step) == (2, "checkpoint-10", 10)
    assert (manifest.state, manifest.why, manifest.ended, manifest.trainer) == ("starting", None, None, None)


@pytest.mark.parametrize("left", [[], ["log/1.rank0.txt"], ["journal/trainer-1.jsonl"]])
def test_an_attempt_that_never_had_a_trainer_keeps_its_number(run: RunDirectory, left: list[str]) -> None:
    for name in left:
        (run.path / name).touch()
    manifest = Manifest("demo", state="failed")
    begin_attempt(run, manifest, StartingPoint(None, ""))
    assert manifest.attempt == (2 if left else 1)


def test_overrides_are_laid_over_the_earlier_ones(run: RunDirectory) -> None:
    manifest = Manifest("demo", overrides={"training": {"per_device_train_batch_size": 4, "max_steps": 9}})
    begin_attempt(run, manifest, StartingPoint(None, ""), {"training": {"per_device_train_batch_size": 2}, "launch": {"x": 1}})
    assert manifest.overrides == {"training": {"per_device_train_batch_size": 2, "max_steps": 9}, "launch": {"x": 1}}
    begin_attempt(run, manifest, StartingPoint(None, ""))
    assert manifest.overrides["training"]["per_device_train_batch_size"] == 2, "they stay"


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (Manifest("x", state="done", step=60, max_steps=60), "has done all of its 60 steps"),
        (Manifest("x", state="done", step=40, max_steps=60), None),
        (Manifest("x", state="done"), None),
        (Manifest("x", state="failed", step=60, max_steps=60), None),
        (Manifest("x", state="stopped", host="another-box"), None),
        (Manifest("x", state="running", host="another-box"), "running on another-box"),
    ],
)
def test_who_may_go_on(manifest: Manifest, words: str | None) -> None:
    found = refusal(manifest)
    assert found is None if words is None else words in str(found)
