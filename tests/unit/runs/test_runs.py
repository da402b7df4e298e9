"""Run directories and manifests: names that are safe, folders that are private, and states that do not outlive their processes."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tuitune.bus.journal import Journal
from tuitune.errors import UserError
from tuitune.runs import directory
from tuitune.runs.directory import RunDirectory, create_run, create_workspace_run
from tuitune.runs.listing import find_run, list_runs, reference
from tuitune.runs.manifest import ENDED, LIVING, Manifest, Process, read_manifest, write_manifest


def dead_process() -> Process:
    """A process that ran a moment ago."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = Process.of(child.pid)
    child.communicate(b"\n")
    assert process is not None
    return process


def living_process() -> Process:
    process = Process.of(os.getpid())
    assert process is not None
    return process


def make_run(root: Path, name: str = "demo", **fields: object) -> RunDirectory:
    run = create_run(root, name, "name: demo\n")
    write_manifest(run, Manifest(name=name, **fields))
    return run


# --- create_run -------------------------------------------------------------------------------------------------------------------


def test_a_run_is_named_after_its_recipe_and_the_time_and_holds_the_recipe(tmp_path: Path) -> None:
    run = create_run(tmp_path / "deep" / "runs", "my-model_1.5", "name: ä\n")
    assert re.fullmatch(r"my-model_1\.5-\d{8}-\d{6}", run.name)
    assert run.recipe.read_text(encoding="utf-8") == "name: ä\n"
    assert run.path.parent == tmp_path / "deep" / "runs"


def test_a_run_is_this_users_alone(tmp_path: Path) -> None:
    run = create_run(tmp_path, "demo", "")
    for folder in (run.path, run.journal, run.log, run.samples, run.checkpoints, run.commands):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    assert stat.S_IMODE(run.recipe.stat().st_mode) == 0o600


def test_runs_started_within_one_second_get_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory.time, "strftime", lambda _: "20260102-030405")
    made: list[RunDirectory] = []
    threads = [threading.Thread(target=lambda: made.append(create_run(tmp_path, "demo", ""))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {"demo-20260102-030405", *(f"demo-20260102-030405-{number}" for number in range(2, 9))}
    assert {run.name for run in made} == expected
    assert {path.name for path in tmp_path.iterdir()} == expected


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a b/c", "a-b-c"),
        ("../../etc/passwd", "etc-passwd"),
        ("..", "run"),
        ("", "run"),
        ("///", "run"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("a\x1b[31m\n\x00\tb", "a-31m-b"),
        ("größe", "gr-e"),
        ("名前", "run"),
        ("x" * 300, "x" * 60),
        ("a\ud800b", "a-b"),
    ],
)
def test_an_odd_name_becomes_a_plain_folder_inside_the_root(tmp_path: Path, name: str, stem: str) -> None:
    run = create_run(tmp_path, name, "")
    assert run.path.parent == tmp_path
    assert re.fullmatch(re.escape(stem) + r"-\d{8}-\d{6}", run.name)
    assert run.path.is_dir()


def test_a_name_cut_to_length_does_not_end_in_a_dash_or_dot(tmp_path: Path) -> None:
    assert re.fullmatch(r"x{59}-\d{8}-\d{6}", create_run(tmp_path, "x" * 59 + " more words", "").name)


def test_a_root_that_is_a_file_is_one_sentence_with_the_remedy(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    root.write_text("")
    with pytest.raises(UserError, match=r"cannot be made.*output\.runs") as refused:
        create_run(root, "demo", "")
    assert str(root) in str(refused.value)


@pytest.mark.skipif(not Path("/proc/1").exists(), reason="needs /proc")
def test_a_root_that_refuses_new_folders_is_one_sentence_with_the_remedy() -> None:
    """/proc refuses even root."""
    with pytest.raises(UserError, match=r"/proc/tuitune-runs: the run directory cannot be made \(.+\); .*output\.runs"):
        create_run(Path("/proc/tuitune-runs"), "demo", "")


# --- output.runs ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runs", ["elsewhere", "deep/in here", "runs/big", "../beside", "{absolute}"])
def test_a_run_that_lies_elsewhere_is_found_in_its_workspace(tmp_path: Path, runs: str) -> None:
    workspace = tmp_path / "work"
    workspace.mkdir()
    runs = runs.format(absolute=tmp_path / "big disk")
    run = create_workspace_run(workspace, runs, "demo", "")
    write_manifest(run, Manifest(name="demo", state="done"))
    assert run.path.parent == (workspace / runs).resolve()
    (summary,) = list_runs(workspace / "runs")
    assert (summary.id, summary.path) == (run.name, run.path)
    assert find_run(workspace / "runs", "demo").path == run.path
    assert find_run(workspace / runs, "demo").path == run.path
    assert reference(run, workspace) == run.name


@pytest.mark.parametrize("runs", ["runs", "runs/", "./runs", "../work/runs", "link"])
def test_the_ordinary_folder_however_it_is_written_holds_the_run_itself(tmp_path: Path, runs: str) -> None:
    workspace = tmp_path / "work"
    (workspace / "runs").mkdir(parents=True)
    (workspace / "link").symlink_to("runs")
    run = create_workspace_run(workspace, runs, "demo", "")
    assert run.path.parent == workspace / "runs"
    assert not run.path.is_symlink()


def test_runs_of_one_second_in_two_folders_get_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory.time, "strftime", lambda _: "20260102-030405")
    names = {create_workspace_run(tmp_path, folder, "demo", "").name for folder in ("runs", "a", "b", "runs", "a")}
    assert len(names) == 5
    assert {path.name for path in (tmp_path / "runs").iterdir()} == names
    assert len(list((tmp_path / "a").iterdir())) == 2, "no folder is left of a name that was taken"


def test_a_moved_workspace_keeps_its_links_and_a_deleted_run_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    run = create_workspace_run(tmp_path / "old", "elsewhere", "demo", "")
    (tmp_path / "old").rename(tmp_path / "new")
    (summary,) = list_runs(tmp_path / "new" / "runs")
    assert summary.path == tmp_path / "new" / "elsewhere" / run.name
    shutil.rmtree(summary.path)
    assert list_runs(tmp_path / "new" / "runs") == []


def test_a_run_of_another_folder_is_named_by_its_path(tmp_path: Path) -> None:
    run = make_run(tmp_path / "my work" / "runs")
    assert reference(run, tmp_path) == f"'my work/runs/{run.name}'"
    assert reference(run, tmp_path / "elsewhere") == f"'{run.path}'"


# --- the manifest -----------------------------------------------------------------------------------------------------------------


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    run = create_run(tmp_path, "demo", "")
    manifest = Manifest(
        name="größe \x1b[0m",
        ended=5.5,
        recipe_path="/a/b.yaml",
        workspace="/a",
        versions={"trl": "1.0", "peft": None},
        attempt=3,
        state="failed",
        why="a\nb",
        step=7,
        max_steps=9,
        loss=0.25,
        hub=living_process(),
        trainer=Process(2**22, 12345),
    )
    write_manifest(run, manifest)
    assert read_manifest(run) == manifest
    assert stat.S_IMODE(run.manifest.stat().st_mode) == 0o600


def test_a_later_versions_fields_are_passed_over_and_missing_ones_have_defaults(tmp_path: Path) -> None:
    run = create_run(tmp_path, "demo", "")
    run.manifest.write_text(json.dumps({"name": "demo", "schema": 1, "mood": "good", "hub": None}))
    manifest = read_manifest(run)
    assert (manifest.name, manifest.state, manifest.hub) == ("demo", "starting", None)


def test_a_folder_without_manifest_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no manifest\.json"):
        read_manifest(RunDirectory(tmp_path))


DAMAGED = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"\xff\xfe",
    b"\0" * 4096,
    b"{}",
    b'{"name": "x", "hub": 3}',
    b'{"name": "x", "hub": {"pid": 1}}',
    b'{"name": "x", "created": "yesterday"}',
    b'{"name": "x", "created": null}',
    b'{"name": "x", "state": ["running"]}',
    b'{"name": ["x"]}',
    b'{"name": "x", "hub": {"pid": "1", "start_ticks": 1}}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: repr(content[:40]))
def test_a_damaged_manifest_is_one_sentence_and_one_line_of_the_list(tmp_path: Path, content: bytes) -> None:
    good, run = make_run(tmp_path, "good", state="done"), create_run(tmp_path, "broken", "")
    run.manifest.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read") as refused:
        read_manifest(run)
    assert str(run.manifest) in str(refused.value)
    states = {summary.id: summary.state for summary in list_runs(tmp_path)}
    assert states == {good.name: "done", run.name: "unreadable"}


def test_a_manifest_that_is_a_folder_is_damaged_as_well(tmp_path: Path) -> None:
    run = create_run(tmp_path, "demo", "")
    run.manifest.mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        read_manifest(run)


# --- processes --------------------------------------------------------------------------------------------------------------------


def test_this_process_is_alive() -> None:
    assert living_process().alive()


def test_a_process_that_has_ended_is_not_alive() -> None:
    assert not dead_process().alive()


def test_a_later_process_of_the_same_pid_is_not_taken_for_it() -> None:
    now = living_process()
    assert not replace(now, start_ticks=now.start_ticks - 1).alive()


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = Process.of(child.pid)
    assert process is not None
    assert process.alive()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert not process.alive()
        assert Process.of(child.pid) is None
    finally:
        child.communicate()


def test_a_pid_nobody_has_gives_no_process() -> None:
    assert Process.of(2**22 + 1) is None


def test_a_process_with_parentheses_and_blanks_in_its_name_is_read_right() -> None:
    code = "open('/proc/self/comm', 'w').write(') R 1 (x'); print('ready', flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == b"ready\n"
        process = Process.of(child.pid)
        assert process is not None
        assert process.alive()
        assert process.start_ticks >= living_process().start_ticks
    finally:
        child.communicate(b"\n")


# --- states -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(LIVING))
def test_a_living_state_needs_a_living_process(state: str) -> None:
    dead, living = dead_process(), living_process()
    assert Manifest(name="x", state=state, hub=living).living_state() == state
    assert Manifest(name="x", state=state, hub=dead, trainer=living).living_state() == state, "the trainer outlived its hub"
    assert Manifest(name="x", state=state, hub=dead, trainer=dead).living_state() == "lost"
    assert Manifest(name="x", state=state, hub=dead).living_state() == "lost"


@pytest.mark.parametrize("state", sorted(ENDED))
def test_an_ended_state_stays_whatever_lives(state: str) -> None:
    assert Manifest(name="x", state=state, hub=living_process()).living_state() == state
    assert Manifest(name="x", state=state).living_state() == state


def test_a_run_that_is_just_being_started_has_half_a_minute_for_its_hub() -> None:
    assert Manifest(name="x", created=time.time() - 5).living_state() == "starting"
    assert Manifest(name="x", created=time.time() - 60).living_state() == "lost"


def test_what_another_host_runs_is_taken_at_its_word() -> None:
    assert Manifest(name="x", state="running", host="another-box", hub=dead_process()).living_state() == "running"


def test_what_a_trainer_wrote_after_its_hub_died_brings_the_manifest_up_to_date(tmp_path: Path) -> None:
    run = make_run(tmp_path, state="running", step=3, hub=dead_process())
    journal = Journal(run.journal / "trainer-1.jsonl")
    journal.emit("metrics", step=8, max_steps=9, loss=0.5)
    journal.emit("metrics", step=9, max_steps=9, loss=float("nan"))
    journal.emit("end", reason="done", step=9)
    manifest = read_manifest(run)
    assert (manifest.state, manifest.step, manifest.max_steps, manifest.loss) == ("done", 9, 9, 0.5)
    assert manifest.ended is not None
    assert list_runs(tmp_path)[0].state == "done"


def test_what_was_trained_on_what_is_in_the_manifest(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    manifest = read_manifest(run)
    manifest.take({"ev": "data", "rows": 3, "fingerprint": "f" * 16, "sha256": "a" * 64})
    assert manifest.trainable_sha256 is None
    manifest.take({"ev": "data", "trainable_sha256": "b" * 64, "sha256": 7, "rewards_sha256": "c" * 64})
    write_manifest(run, manifest)
    written = json.loads(run.manifest.read_text())
    hashes = [written[key] for key in ("data_fingerprint", "data_sha256", "trainable_sha256", "rewards_sha256")]
    assert hashes == ["f" * 16, "a" * 64, "b" * 64, "c" * 64]


def test_a_living_hubs_manifest_is_taken_as_it_is(tmp_path: Path) -> None:
    run = make_run(tmp_path, state="running", step=3, hub=living_process())
    Journal(run.journal / "trainer-1.jsonl").emit("end", reason="done", step=9)
    assert (read_manifest(run).state, read_manifest(run).step) == ("running", 3)


# --- the list ---------------------------------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first_and_other_folders_are_none(tmp_path: Path) -> None:
    ids = [make_run(tmp_path, name, state="done", created=float(created)).name for name, created in (("b", 2), ("c", 3), ("a", 1))]
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").write_text("")
    assert [run.id for run in list_runs(tmp_path)] == [ids[1], ids[0], ids[2]]
    assert list_runs(tmp_path / "nowhere") == []


def test_a_run_whose_box_was_restarted_is_lost_and_says_why(tmp_path: Path) -> None:
    make_run(tmp_path, state="running", step=3, hub=dead_process())
    (run,) = list_runs(tmp_path)
    assert (run.state, run.alive, run.step) == ("lost", False, 3)
    assert "gone without a word" in (run.why or "")


def test_a_run_is_found_by_path_id_beginning_or_as_the_one_that_lives(tmp_path: Path) -> None:
    first = make_run(tmp_path, "demo", state="done")
    second = make_run(tmp_path, "demo", state="running", hub=living_process())
    other = make_run(tmp_path, "other", state="done")
    assert find_run(tmp_path, str(first.path)).path == first.path
    assert find_run(tmp_path, first.name).path == first.path, "the whole id, though it begins the second one's as well"
    assert find_run(tmp_path, "oth").path == other.path
    assert find_run(tmp_path, "demo").path == second.path, "the one of two that lives"


def test_what_names_no_run_or_several_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there are none yet"):
        find_run(tmp_path, "demo")
    ids = [make_run(tmp_path, "demo", state="done").name for _ in range(2)]
    with pytest.raises(UserError, match="name more of it") as refused:
        find_run(tmp_path, "de")
    assert all(name in str(refused.value) for name in ids)
    with pytest.raises(UserError, match="no run 'x'") as refused:
        find_run(tmp_path, "x")
    assert ids[0] in str(refused.value)


def test_a_run_that_is_just_being_made_is_starting_and_one_that_never_got_a_manifest_is_unreadable(tmp_path: Path) -> None:
    run = create_run(tmp_path, "demo", "")
    (summary,) = list_runs(tmp_path)
    assert (summary.state, summary.alive) == ("starting", True)
    os.utime(run.path, (1e9, 1e9))
    (summary,) = list_runs(tmp_path)
    assert (summary.state, summary.alive) == ("unreadable", False)
    assert "manifest.json" in str(summary.why)
