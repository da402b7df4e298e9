"""A job has a hub, a journal and an end like a run; its process does what its kind's module says."""

import json
from pathlib import Path

import pytest

from tests.support.living_job import living_job
from tuitune.after.commands import follow
from tuitune.cli import main
from tuitune.errors import UserError
from tuitune.hub.launch import launch_job, resume_run
from tuitune.runs.listing import list_runs
from tuitune.runs.manifest import Manifest, read_manifest, write_manifest
from tuitune.runs.results import result_of


def test_a_job_tells_its_progress_and_leaves_its_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with living_job(tmp_path, {"story": "loud"}) as job:
        result = follow(job.run, as_json=False)
        manifest = job.ends()
        assert result == {"rows": 3, "path": str(job.run.path / "merged")} == result_of(job.run, manifest)
        assert (manifest.state, manifest.step, manifest.max_steps) == ("done", 3, 3)
        assert [state["s"] for state in job.records("state")] == ["starting", "loading", "running", "done", "done"]
        assert "running" in capsys.readouterr().out
        (summary,) = list_runs(tmp_path / "runs")
        assert (summary.kind, summary.state) == ("eval", "done")


def test_a_job_takes_its_own_commands_and_refuses_others(tmp_path: Path) -> None:
    with living_job(tmp_path, {"story": "talk"}, kind="chat") as job:
        job.reaches("running")
        answer = job.send("ask", text="hello")
        assert (answer["s"], answer["text"]) == ("applied", "HELLO")
        refused = job.send("save")
        assert (refused["s"], refused["error"]) == ("failed", "a chat takes no 'save'; it takes stop, ask")
        assert job.send("stop")["s"] == "applied"
        assert job.ends().state == "stopped"
        assert result_of(job.run, read_manifest(job.run)) == {"asked": 1}


def test_a_job_that_still_loads_ends_at_once_when_it_is_stopped(tmp_path: Path) -> None:
    with living_job(tmp_path, {"story": "slow"}) as job:
        job.reaches("loading")
        job.send("stop")
        assert job.ends().state == "stopped"


@pytest.mark.parametrize(
    ("story", "words"),
    [("sentence", "row 3 has no answer; mend it"), ("broken", "the trainer stopped with an error: RuntimeError: no such kernel")],
)
def test_why_a_job_failed_is_a_sentence(tmp_path: Path, story: str, words: str) -> None:
    with living_job(tmp_path, {"story": story}) as job:
        with pytest.raises(UserError, match=words):
            follow(job.run, as_json=True)
        assert job.ends().state == "failed"


def test_a_job_of_another_version_s_kind_fails_with_the_remedy(tmp_path: Path) -> None:
    run = launch_job("distil", {}, name="demo", recipe_text="launch: {gpus: cpu}\n", recipe_path=None, workspace=tmp_path)
    with pytest.raises(UserError, match="knows no job 'distil'"):
        follow(run, as_json=True)
    assert run.name.startswith("distil-demo-")
    assert (run.log / "hub.txt").read_text() == ""


def test_the_table_of_runs_says_what_is_a_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with living_job(tmp_path, {"story": "loud"}) as job:
        job.ends()
        assert main(["runs", "--runs", str(tmp_path / "runs")]) == 0
        assert "eval-demo" in (out := capsys.readouterr().out)
        assert "kind" in out
        main(["runs", "--runs", str(tmp_path / "runs"), "--json"])
        assert json.loads(capsys.readouterr().out)["runs"][0]["kind"] == "eval"


# --- going on ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "state", "words"),
    [("chat", "failed", "a chat's turns are gone with its process"), ("merge", "done", "this merge is done: start another one")],
)
def test_what_cannot_go_on_says_so(tmp_path: Path, kind: str, state: str, words: str) -> None:
    with living_job(tmp_path, {"story": "loud"}, kind=kind) as job:
        manifest = job.ends()
        manifest.state = state
        write_manifest(job.run, manifest)
        with pytest.raises(UserError, match=words):
            resume_run(job.run)


def test_a_job_that_died_starts_again_from_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with living_job(tmp_path, {"story": "sentence"}) as job:
        job.ends()
        resumed = resume_run(job.run)  # the real kind's module now, which refuses: what counts is that it was started
        assert (resumed.attempt, resumed.resume_from) == (2, None)
        assert resumed.words == f"{job.run.name} starts again, from its beginning"
        with pytest.raises(UserError):
            follow(job.run, as_json=True)


def test_a_manifest_of_before_there_were_jobs_is_a_training_s(tmp_path: Path) -> None:
    with living_job(tmp_path, {"story": "loud"}) as job:
        manifest = job.ends()
        document = json.loads(job.run.manifest.read_text())
        del document["kind"], document["job"]
        job.run.manifest.write_text(json.dumps(document))
        assert read_manifest(job.run).kind == Manifest(name="x").kind == "train"
        assert manifest.kind == "eval"
