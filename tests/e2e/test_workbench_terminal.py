"""The workbench as a process behind a real terminal: colours, keys as terminals send them, being hung up, no terminal at all."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from tests.support.terminal import Terminal

COMMAND = [sys.executable, "-m", "tuitune"]
RECIPE = "name: demo\ntask: sft\nmodel:\n  name_or_path: x\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    (root / "data").mkdir(parents=True)
    (root / "demo.yaml").write_text(RECIPE)
    (root / "notes.md").write_text("first note\n")
    (root / "data/train.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    return root


def start(
    folder: Path, *options: str, env: dict[str, str] | None = None, colors: str = "truecolor", before: Sequence[str] = ()
) -> Terminal:
    """The workbench on a folder, with a home of its own."""
    home = folder.parent / "home"
    places = {"XDG_CONFIG_HOME": str(home / "config"), "XDG_CACHE_HOME": str(home / "cache"), "HOME": str(home)}
    return Terminal([*before, *COMMAND, "open", str(folder), *options], env={**places, **(env or {})}, colors=colors)


def written(terminal: Terminal) -> bytes:
    return b"".join(data for _, data in terminal.chunks)


@pytest.mark.parametrize(
    ("options", "env", "colors", "has", "has_not"),
    [
        ((), {}, "truecolor", rb"\x1b\[[0-9;]*38;2;", rb"\x1b\]4;"),
        ((), {}, "256", rb"\x1b\[[0-9;]*38;5;", rb"[34]8;2;"),
        (("--colors", "256"), {}, "truecolor", rb"\x1b\[[0-9;]*38;5;", rb"[34]8;2;"),
        (("--colors", "16"), {}, "truecolor", rb"\x1b\[[0-9;]*3[0-7]", rb"[34]8;[25];"),
    ],
    ids=["truecolor", "256", "--colors 256", "--colors 16"],
)
def test_colours(folder, options, env, colors, has, has_not):
    """As many colours as the terminal has, or as asked for."""
    with start(folder, *options, env=env, colors=colors) as terminal:
        terminal.wait_for("demo.yaml")
        assert re.search(has, written(terminal))
        assert not re.search(has_not, written(terminal))


def test_no_color_leaves_only_greys(folder):
    """NO_COLOR: bold and shades remain, so that the cursor can still be seen."""
    with start(folder, env={"NO_COLOR": "1"}, colors="256") as terminal:
        terminal.wait_for("demo.yaml")
        used = {int(number) for number in re.findall(rb"[34]8;5;(\d+)", written(terminal))}
        assert used
        assert used <= {16, 231, *range(232, 256)}


def test_keys_as_terminals_send_them(folder):
    """Alt with a mark and with a digit, function keys, Ctrl+backslash: all without the kitty protocol."""
    with start(folder) as terminal:
        terminal.wait_for("train.jsonl")
        terminal.send("ctrl+p")
        terminal.wait_for("by name; ? for more")
        terminal.send("notes", "enter")
        terminal.wait_for("first note")
        terminal.send("alt+3")
        terminal.wait_for(re.compile(r"^(?!.*disk free)", re.DOTALL))
        terminal.send("ctrl+t")
        terminal.wait_for("PROBLEMS")
        terminal.send("\x1b?")
        terminal.wait_for("Everywhere")
        terminal.send("escape")
        terminal.send("f1")
        terminal.wait_for("Close tab")


@pytest.mark.parametrize("options", [(), ("--no-mouse",)], ids=["mouse", "no mouse"])
def test_the_mouse_is_asked_for_unless_it_is_not_wanted(folder, options):
    with start(folder, *options) as terminal:
        terminal.wait_for("demo.yaml")
        assert (b"\x1b[?1000h" in written(terminal)) == (not options)


def test_hung_up_it_is_gone_within_a_second(folder):
    with start(folder) as terminal:
        terminal.wait_for("demo.yaml")
        terminal.hang_up()
        assert terminal.process.wait(3) == 128 + signal.SIGHUP


def test_hung_up_the_unsaved_text_is_kept_and_offered(folder):
    """What was typed and not saved is there when the recipe is opened the next time; the file itself is as it was."""
    with start(folder) as terminal:
        terminal.wait_for("demo.yaml")
        terminal.send("ctrl+p")
        terminal.wait_for("by name; ? for more")
        terminal.send("demo", "enter")
        terminal.wait_for("name_or_path")
        terminal.send("# a thought", "enter")
        terminal.wait_for("demo.yaml ●")
        terminal.hang_up()
        terminal.process.wait(3)
    assert (folder / "demo.yaml").read_text() == RECIPE
    (draft,) = (folder.parent / "home/cache/tuitune/drafts").iterdir()
    assert draft.read_text() == "# a thought\n" + RECIPE
    with start(folder) as terminal:
        terminal.wait_for("demo.yaml")
        terminal.send("ctrl+p")
        terminal.wait_for("by name; ? for more")
        terminal.send("demo", "enter")
        terminal.wait_for(re.compile("(?i)draft|unsaved|not saved"))


def test_hung_up_under_nohup_it_goes_too(folder):
    """Where SIGHUP is ignored stock Textual spins on the dead terminal for ever."""
    with start(folder, before=["sh", "-c", 'trap "" HUP; exec "$@"', "sh"]) as terminal:
        terminal.wait_for("demo.yaml")
        terminal.hang_up()
        assert terminal.process.wait(5) == 128 + signal.SIGHUP


def test_asked_to_end_it_leaves_the_terminal_as_it_was(folder):
    with start(folder) as terminal:
        terminal.wait_for("demo.yaml")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.process.wait(3) == 128 + signal.SIGTERM
        assert b"\x1b[?1049l" in written(terminal)
        assert b"\x1b[?25h" in written(terminal)


@pytest.mark.parametrize("words", [["open", "."], ["."]])
def test_without_a_terminal_it_says_what_to_use(folder, words):
    done = subprocess.run([*COMMAND, *words], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("tuitune: the workbench needs a terminal; without one use `tuitune train`")
    assert done.stderr.count("\n") == 1


def test_a_dumb_terminal_is_told(folder):
    with start(folder, env={"TERM": "dumb"}) as terminal:
        terminal.wait_for("cannot draw a workbench")
        assert terminal.process.wait(5) == 2


def test_the_analyst_warms_up_beside_the_workbench_and_ends_with_it(folder):
    """Started by itself once the workbench stands; somebody who quits leaves no process behind."""
    with start(folder, env={"TUITUNE_WARM_UP": "1"}) as terminal:
        terminal.wait_for("demo.yaml")
        workbench = psutil.Process(terminal.process.pid)
        deadline = time.monotonic() + 60
        analysts: list[psutil.Process] = []
        while not analysts and time.monotonic() < deadline:
            time.sleep(0.1)
            analysts = [child for child in workbench.children() if child.cmdline()[-1:] == ["tuitune.analyst"]]
        assert len(analysts) == 1
        terminal.send("ctrl+q")
        assert terminal.process.wait(10) == 0
        assert psutil.wait_procs(analysts, timeout=90)[1] == []
