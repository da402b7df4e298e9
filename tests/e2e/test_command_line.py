"""The command line's main path as a user types it: train, detach, attach, send, runs, each a process of its own, over real trainings of
a tiny random model. Ctrl-C is a SIGINT."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.journals import write_run
from tests.support.living_hub import until
from tests.support.runs import ONE_THREAD, ROOT
from tests.support.tiny_model import write_rows
from tuitune.runs.directory import RunDirectory
from tuitune.runs.listing import list_runs
from tuitune.runs.manifest import read_manifest

pytestmark = pytest.mark.xdist_group("command line")
RECIPE = """\
name: {name}
task: sft
model: {{name_or_path: {model}, dtype: float32}}
peft: {{r: 8, target_modules: all-linear}}
dataset:
  train: [{{path: {data}, columns: {{user: question, assistant: answer}}}}]
training: {{max_steps: {steps}, per_device_train_batch_size: 2, max_length: 64, logging_steps: 1, save_strategy: 'no', use_cpu: true}}
output: {{runs: elsewhere}}
"""


class Workspace:
    """A folder with recipes, and the commands typed in it."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "HF_HUB_OFFLINE": "1",
            **ONE_THREAD,
        }
        write_rows(folder / "train.jsonl", 16)

    def recipe(self, name: str, steps: int, data: str = "train.jsonl") -> str:
        """A recipe file's name."""
        (self.folder / f"{name}.yaml").write_text(RECIPE.format(name=name, model=self.model, steps=steps, data=data))
        return f"{name}.yaml"

    def start(self, *words: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tuitune", *words],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )

    def tuitune(self, *words: str) -> tuple[int, str, str]:
        """(exit code, stdout, stderr) of a command that ends by itself."""
        process = self.start(*words)
        out, err = process.communicate(timeout=90)
        return process.returncode, out, err

    def run(self, name: str) -> RunDirectory:
        """The newest run of a recipe."""
        return RunDirectory(next(run.path for run in list_runs(self.folder / "runs") if run.name == name))

    def end(self) -> None:
        """Leave no process."""
        for run in list_runs(self.folder / "runs"):
            manifest = read_manifest(RunDirectory(run.path))
            for process in (manifest.trainer, manifest.hub):
                if process is not None and process.alive():
                    os.kill(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def workspace(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    one = Workspace(tmp_path_factory.mktemp("work"), tiny_model)
    yield one
    one.end()


@pytest.fixture(scope="module")
def failing(workspace: Workspace) -> subprocess.Popen[str]:
    """A training that is forced though its data is broken, begun before it is looked at: it takes its seconds beside the others."""
    (workspace.folder / "bad.jsonl").write_text('{"question": "x", \n')
    return workspace.start("train", workspace.recipe("fails", steps=2, data="bad.jsonl"), "--plain", "--force")


def read_until(process: subprocess.Popen[str], words: str, seconds: float = 120.0) -> str:
    """What a process prints up to the line that has `words`; the test's own timeout ends a wait that is in vain."""
    assert process.stdout is not None
    seen = ""
    deadline = time.monotonic() + seconds
    for line in process.stdout:
        seen += line
        if words in line:
            return seen
        assert time.monotonic() < deadline, seen
    raise AssertionError(f"it ended before it said {words!r}: {seen}")


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a process still prints, (stdout, stderr), until it ends. `communicate` would lose what read_until has in its buffer."""
    assert process.stdout is not None
    assert process.stderr is not None
    rest = process.stdout.read(), process.stderr.read()
    process.wait(20)
    return rest


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C."""
    process.send_signal(signal.SIGINT)


def typed_again(workspace: Workspace, said: str) -> dict[str, list[str]]:
    """The commands that a hint names, by their first word."""
    found = [match.split() for match in re.findall(r"tuitune ((?:attach|send) .*?)(?:   |\n|$)", said)]
    return {words[0]: words for words in found}


def only_json(text: str) -> list[dict]:
    """The records of a stream; fails for a line that is none."""
    return [json.loads(line) for line in text.splitlines()]


def test_a_detached_run_is_listed_followed_left_and_stopped_by_the_words_that_were_printed(
    workspace: Workspace, failing: subprocess.Popen[str]
) -> None:
    code, out, err = workspace.tuitune("train", workspace.recipe("long", steps=100_000), "--detach")
    assert (code, err) == (0, ""), "warnings are printed, and nobody is asked"
    run = workspace.run("long")
    assert run.path.parent == workspace.folder / "elsewhere", "where output.runs says"
    attach = typed_again(workspace, out)["attach"]
    assert attach == ["attach", run.name]

    viewer = workspace.start(*attach, "--plain")
    seen = read_until(viewer, "step 2/100000")
    assert "loading" in seen
    assert "loss " in seen
    interrupt(viewer)
    rest, err = finish(viewer)
    assert (viewer.returncode, err) == (0, "")
    assert f"{run.name} goes on without you." in rest
    assert "\x1b" not in seen + rest
    assert read_manifest(run).living_state() == "running"

    stream = workspace.start(*typed_again(workspace, rest)["attach"], "--json")
    before = read_until(stream, '"metrics"')
    interrupt(stream)
    lines, err = finish(stream)
    assert stream.returncode == 0
    assert {record["v"] for record in only_json(before + lines)} == {1}
    assert "goes on without you" in err, "the hint does not spoil the JSON"

    until(lambda: read_manifest(run).step)
    code, table, _ = workspace.tuitune("runs")
    assert code == 0
    assert re.search(rf"^{run.name}\s+running\s+\d+/100000\s+[\d.]+\s+20\d\d-", table, re.MULTILINE), table
    assert workspace.tuitune("send", run.name, "dance")[0] == 1
    code, _, err = workspace.tuitune("send", run.name, "dance", "--json")
    assert (code, err) == (1, "")
    code, out, _ = workspace.tuitune(*typed_again(workspace, rest)["send"], "save=false")
    assert (code, out) == (0, f"{run.name}: stop queued\n")
    until(lambda: read_manifest(run).state == "stopped", 30)
    code, out, err = workspace.tuitune("attach", run.name)
    assert (code, err) == (0, ""), "a run that is over is told from its beginning to its end"
    assert "step 1/100000" in out
    assert " stopped: stop by " in out
    manifest = json.loads(run.manifest.read_text())
    assert len(manifest["data_sha256"]) == 64
    assert manifest["data_fingerprint"]


def test_ctrl_c_saves_and_stops_when_asked_to_and_a_second_one_leaves_the_run_alone(workspace: Workspace) -> None:
    """The trainer is held still meanwhile, so that both Ctrl-C come before it can answer."""
    stream = workspace.start("train", workspace.recipe("asked", steps=100_000), "--json", "--stop-on-interrupt")
    before = read_until(stream, '"metrics"')
    run = workspace.run("asked")
    trainer = read_manifest(run).trainer
    assert trainer is not None
    os.kill(trainer.pid, signal.SIGSTOP)
    try:
        interrupt(stream)
        assert stream.stderr is not None
        assert "stop queued" in stream.stderr.readline()
        interrupt(stream)
        rest, err = finish(stream)
    finally:
        os.kill(trainer.pid, signal.SIGCONT)
    assert stream.returncode == 0
    assert "goes on without you" in err
    records = only_json(before + rest)
    numbers = [(record["src"], record["n"]) for record in records]
    assert len(numbers) == len(set(numbers)), "the first Ctrl-C repeats nothing"
    until(lambda: read_manifest(run).state == "stopped", 30)
    assert (run.adapter / "adapter_model.safetensors").exists(), "it saved"


def test_a_forced_run_that_fails_exits_with_1_and_the_sentence_and_remembers_that_it_was_forced(
    workspace: Workspace, failing: subprocess.Popen[str]
) -> None:
    out, err = failing.communicate(timeout=120)
    assert failing.returncode == 1
    assert err.count("\n") == 1, "one sentence, where errors belong"
    assert "bad.jsonl:1" in err
    checked, _, trained = out.partition(" starting\n")
    assert " error " in checked
    assert "bad.jsonl:1" in checked, "preflight said so before"
    assert "bad.jsonl:1" not in trained, "and the run's lines do not once more"
    assert "warning: started with --force" in trained
    assert read_manifest(workspace.run("fails")).overridden
    assert "Traceback" not in out
    assert workspace.tuitune("attach", "fails", "--json")[0] == 1, "and so does looking at it later"


def test_a_pipe_that_nobody_reads_any_more_ends_the_viewer_and_not_the_run(workspace: Workspace, tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs", steps=60)
    reading, writing = os.pipe()
    viewer = workspace.start("attach", str(run), "--json", stdout=writing)
    os.close(writing)
    os.close(reading)
    assert viewer.wait(30) == 0
    assert viewer.stderr is not None
    assert viewer.stderr.read() == ""


def test_an_empty_folder_says_how_to_start(workspace: Workspace, tmp_path: Path) -> None:
    other = Workspace(tmp_path, workspace.model)
    assert other.tuitune("runs") == (0, "No runs in runs. Start one: tuitune train RECIPE\n", "")
