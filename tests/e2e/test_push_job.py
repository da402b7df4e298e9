"""`tuitune push` in a shell: dry run, the real job and its hub, the real client, a stand-in of the Hub; and the token is nowhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.hub_server import TOKEN, WritableHub
from tests.support.results import ended_run
from tests.support.runs import ROOT


def tuitune(workspace: Path, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tuitune", *words],
        cwd=workspace,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


@pytest.mark.timeout(420)
def test_what_the_dry_run_shows_is_what_arrives_and_no_token_stays_behind(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    run = ended_run(workspace)
    with WritableHub(tmp_path / "hub") as hub:
        environment = hub.environment(tmp_path / "home")
        shown = tuitune(workspace, environment, "push", run.name, "jane/log", "--dry-run", "--json")
        assert shown.returncode == 0, shown.stderr
        assert hub.requests == [], "a dry run asks nobody"
        assert [path.name for path in run.path.parent.iterdir()] == [run.name], "and makes no run"
        plan = json.loads(shown.stdout)
        assert plan["private"] is True
        assert plan["card"].startswith("---\n")
        sent = tuitune(workspace, environment, "push", run.name, "jane/log", "--json")
        assert sent.returncode == 0, sent.stderr
        result = json.loads(sent.stdout)
        assert sorted(result["sent"]) == sorted(hub.names("jane/log")) == sorted(file["name"] for file in plan["files"])
        assert {file["name"]: file["bytes"] for file in plan["files"]} == {
            name: (hub.repo("jane/log") / name).stat().st_size for name in hub.names("jane/log")
        }
        assert hub.private == {"jane/log": True}
        again = tuitune(workspace, environment, "push", run.name, "jane/log")
        assert again.returncode == 0, again.stderr
        assert "0 files sent, 6 were there already" in again.stdout
        refused = tuitune(workspace, {**environment, "HF_TOKEN": "hf_" + "someotherstoken"}, "push", run.name, "jane/log")
        assert refused.returncode == 1
        assert "does not know this token (401): run `hf auth login`" in refused.stderr
        told = [shown, sent, again, refused]
    assert not any(TOKEN in text or "someotherstoken" in text for done in told for text in (done.stdout, done.stderr))
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len([path for path in kept if path.suffix == ".jsonl"]) >= 6, "journals of three jobs were looked at"
    assert [str(path) for path in kept if TOKEN.encode() in path.read_bytes() or b"someotherstoken" in path.read_bytes()] == []
