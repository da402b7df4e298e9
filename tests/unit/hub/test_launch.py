"""How a run gets its hub: what may go wrong at the start is a sentence, and once it lives it needs nobody who started it."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.living_hub import RECIPE, ROOT, hub_command, until
from tuitune.bus.sockets import remove_sockets
from tuitune.errors import UserError
from tuitune.hub import launch as launch_module
from tuitune.hub.follow import follow
from tuitune.hub.launch import launch, launch_recipe, start_hub
from tuitune.recipe.document import Document
from tuitune.runs.directory import RunDirectory, create_run
from tuitune.runs.listing import list_runs
from tuitune.runs.manifest import Manifest, read_manifest, write_manifest

START = (
    "import signal, sys; from pathlib import Path; from tests.support.living_hub import hub_command;"
    "from tuitune.hub.launch import start_hub; from tuitune.runs.directory import RunDirectory; run = Path(sys.argv[1]);"
    "start_hub(RunDirectory(run), Path.cwd(), hub_command(run, 'long')); print('started', flush=True); signal.pause()"
)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDirectory]:
    """A run that has no hub yet; whatever it gets is gone afterwards."""
    one = create_run(tmp_path / "runs", "demo", RECIPE)
    write_manifest(one, Manifest(name="demo", recipe_path=str(tmp_path / "demo.yaml"), workspace=str(tmp_path)))
    yield one
    manifest = read_manifest(one)
    for process in (manifest.hub, manifest.trainer):
        if process and process.alive():
            os.kill(process.pid, signal.SIGKILL)
    remove_sockets(one.path)


def steps(run: RunDirectory) -> int:
    return read_manifest(run).step or 0


def goes_on(run: RunDirectory) -> None:
    """The hub still tells new steps."""
    before = steps(run)
    until(lambda: steps(run) > before)
    manifest = read_manifest(run)
    assert manifest.hub is not None
    assert manifest.hub.alive()


# --- starts that fail -------------------------------------------------------------------------------------------------------------


def test_a_hub_that_dies_at_once_is_told_with_its_last_words_and_the_run_has_failed(run: RunDirectory) -> None:
    with pytest.raises(UserError, match=r"did not start: no such day \(see .*hub\.txt\)"):
        start_hub(run, ROOT, [sys.executable, "-c", "import sys; sys.exit('no such day')"])
    assert (read_manifest(run).state, read_manifest(run).why) == ("failed", "no such day")


def test_a_hub_that_never_answers_is_ended_and_told(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_module, "START_LIMIT_S", 0.5)
    pid_file = run.path / "pid"
    code = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with pytest.raises(UserError, match="did not answer"):
        start_hub(run, ROOT, [sys.executable, "-c", code])
    assert not os.path.exists(f"/proc/{pid_file.read_text()}")
    assert read_manifest(run).state == "failed"


def test_a_run_that_fails_once_it_has_a_hub_says_why_in_its_journal(tmp_path: Path) -> None:
    """The user's folder has files named like modules: they must not be taken for the libraries."""
    for name in ("json", "psutil", "datasets", "zmq"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    run = launch(tmp_path / "r.yaml", recipe_text="launch: {gpus: 7}\n", name="seven", workspace=tmp_path)
    records = list(follow(run))
    assert records[-1]["ev"] == "end"
    assert "launch.gpus: 7" in records[-1]["error"]
    assert (run.log / "hub.txt").read_text() == ""
    (summary,) = list_runs(tmp_path / "runs")
    assert (summary.state, summary.recipe_path) == ("failed", str(tmp_path / "r.yaml"))


def test_a_recipe_that_cannot_be_read_ends_the_run_with_the_place(tmp_path: Path) -> None:
    run = launch(tmp_path / "r.yaml", recipe_text="launch: {gpus\n", name="broken", workspace=tmp_path)
    error = list(follow(run))[-1]["error"]
    assert "recipe.yaml:2:" in error or "recipe.yaml:1:" in error


def test_what_was_checked_is_what_trains_though_the_file_changes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "task: sft\r\nmodel: {name_or_path: x}\r\ndataset: {train: [{path: a.jsonl}]}\r\nlaunch: {gpus: cpu}\r\n"
    recipe = tmp_path / "odd name.yaml"
    recipe.write_bytes(text.encode())
    started: list[RunDirectory] = []

    def changed_meanwhile(document: Document, schema: object) -> list[object]:
        recipe.write_text("broken: [")
        return []

    monkeypatch.setattr(launch_module, "validate", changed_meanwhile)
    monkeypatch.setattr(launch_module, "start_hub", lambda run, workspace: started.append(run))
    run = launch_recipe(recipe, tmp_path)
    assert started == [run]
    assert run.recipe.read_bytes() == text.encode(), "byte for byte"
    assert run.path.parent == tmp_path / "runs"
    assert (read_manifest(run).name, read_manifest(run).recipe_path) == ("odd-name", str(recipe))


def test_a_recipe_with_errors_starts_nothing_and_lists_them(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("task: sft\nmodel: {name_or_path: x}\ndataset: {train: [{path: a.jsonl}]}\noutput: {run: x}\n")
    with pytest.raises(UserError, match=r"has a problem; nothing was started:\n.*r\.yaml:4:"):
        launch_recipe(recipe, tmp_path)
    assert list(tmp_path.iterdir()) == [recipe]


def test_a_recipe_that_changed_since_it_was_checked_starts_nothing(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("task: sft\nmodel: {name_or_path: x}\ndataset: {train: [{path: a.jsonl}]}\n")
    with pytest.raises(UserError, match="changed since it was checked"):
        launch_recipe(recipe, tmp_path, checked=recipe.read_text() + "# another\n")
    assert list(tmp_path.iterdir()) == [recipe]


def test_the_run_keeps_what_was_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("task: sft\nmodel: {name_or_path: x}\ndataset: {train: [{path: a.jsonl}]}\nlaunch: {gpus: cpu}\n")
    monkeypatch.setattr(launch_module, "start_hub", lambda run, workspace: None)
    run = launch_recipe(recipe, tmp_path, checked=recipe.read_text(), overridden=("EMB01", "TOK01"))
    assert read_manifest(run).overridden == ["EMB01", "TOK01"]


# --- nobody is needed -------------------------------------------------------------------------------------------------------------


def test_the_launcher_may_be_killed(run: RunDirectory) -> None:
    launcher = subprocess.Popen([sys.executable, "-c", START, str(run.path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    assert launcher.stdout.readline() == "started\n"
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.communicate()
    goes_on(run)


@pytest.mark.parametrize("how", ["hang-up", "Ctrl-C"])
def test_neither_a_hang_up_of_the_terminal_nor_its_ctrl_c_reaches_the_run(run: RunDirectory, how: str) -> None:
    """The launcher's controlling terminal is a pseudo-terminal, as over SSH; the line drops, or somebody types Ctrl-C."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-c", START, str(run.path)])
    said = b""
    while b"started" not in said:
        said += os.read(terminal, 1024)
    if how == "Ctrl-C":
        os.write(terminal, b"\x03")
    else:
        os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) != 0, "the launcher itself was meant to die of it"
    if how == "Ctrl-C":
        os.close(terminal)
    goes_on(run)


def test_the_hub_has_no_terminal_and_a_session_of_its_own(run: RunDirectory) -> None:
    start_hub(run, ROOT, hub_command(run.path, "long"))
    until(lambda: steps(run) > 0)
    manifest = read_manifest(run)
    for process in (manifest.hub, manifest.trainer):
        assert process is not None
        assert os.getsid(process.pid) == process.pid
        assert os.readlink(f"/proc/{process.pid}/fd/0") == "/dev/null"
        assert os.readlink(f"/proc/{process.pid}/fd/1").startswith(str(run.log))
