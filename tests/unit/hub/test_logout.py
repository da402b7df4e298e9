"""A box that ends a user's processes at logout: a hub gets a systemd scope that outlives the session, or the user is told, and no other."""

import os
import pwd
from pathlib import Path

import pytest

from tests.support.living_hub import RECIPE, ROOT, hub_command, until
from tuitune.bus.sockets import remove_sockets
from tuitune.hub import logout
from tuitune.hub.launch import start_hub
from tuitune.hub.logout import scope, threat
from tuitune.runs.directory import create_run
from tuitune.runs.manifest import Manifest, read_manifest, write_manifest

SESSION, SERVICE = (
    "0::/user.slice/user-1000.slice/session-3.scope\n",
    "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope\n",
)
KILLS, SPARES = '[ "$5" = KillUserProcesses ] && echo b true', "echo b false"
LINGERS, NOT = "echo yes", "echo no"
TAKES = 'echo "$@" >> {folder}/asked; while [ "$1" != -- ]; do [ "$1" = true ] && exit 0; shift; done; shift; exec "$@"'
REFUSES = "echo no user bus >&2; exit 1"


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A box whose busctl, loginctl and systemd-run are scripts of ours; only those that are given are there."""

    def made(cgroup: str = SESSION, **programs: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for name, script in programs.items():
            program = folder / name.replace("_", "-")
            program.write_text(f"#!/bin/sh\n{script.format(folder=folder)}\n")
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/nowhere")
        (tmp_path / "cgroup").write_text(cgroup)
        monkeypatch.setattr(logout, "CGROUP", tmp_path / "cgroup")
        return folder

    return made


@pytest.mark.parametrize(
    ("cgroup", "busctl", "warned"),
    [
        (SESSION, KILLS, True),
        (SESSION, SPARES, False),
        (SERVICE, KILLS, False),
        ("0::/system.slice/ssh.service\n", KILLS, False),
        (SESSION, f"{KILLS}; exit 1", False),
        ("", KILLS, False),
        (SESSION, f'{KILLS}; [ "$5" = KillExcludeUsers ] && echo \'as 2 "x" "{pwd.getpwuid(os.getuid()).pw_name}"\'; true', False),
        (SESSION, f'{KILLS}; [ "$5" = KillOnlyUsers ] && echo \'as 1 "somebody"\'; true', False),
        (SESSION, f'{KILLS}; [ "$5" = KillExcludeUsers ] && echo \'as 1 "somebody"\'; true', True),
    ],
)
def test_only_a_run_in_a_session_that_will_be_ended_is_warned(box, cgroup: str, busctl: str, warned: bool) -> None:
    box(cgroup, busctl=busctl, loginctl=NOT)
    told = threat()
    assert (told is not None) == warned
    if told is not None:
        assert "run `loginctl enable-linger` once" in told
    assert scope("x") == [], "without lingering a scope ends with the session too"


def test_a_box_without_systemd_has_nothing_to_tell(box) -> None:
    box()
    assert threat() is None
    assert threat(Path("/nowhere/cgroup")) is None
    assert scope("x") == []


def test_where_the_user_lingers_a_scope_is_put_before_the_command(box) -> None:
    box(busctl=KILLS, loginctl=LINGERS, systemd_run=TAKES)
    assert scope("the run") == ["systemd-run", "--user", "--scope", "--quiet", "--collect", "--description=the run", "--"]


@pytest.mark.parametrize("systemd_run", [{}, {"systemd_run": REFUSES}], ids=["none", "refuses"])
def test_a_lingering_user_whose_systemd_takes_no_scope_is_told_so(box, systemd_run: dict[str, str]) -> None:
    box(busctl=KILLS, loginctl=LINGERS, **systemd_run)
    assert scope("x") == []
    assert "did not take it (`systemd-run --user --scope true` says why)" in (threat() or "")


def test_a_hub_is_started_in_that_scope_and_is_the_process_that_was_started(box, tmp_path: Path) -> None:
    folder = box(busctl=KILLS, loginctl=LINGERS, systemd_run=TAKES)
    run = create_run(tmp_path / "runs", "demo", RECIPE)
    write_manifest(run, Manifest(name="demo", recipe_path=str(tmp_path / "demo.yaml"), workspace=str(tmp_path)))
    try:
        start_hub(run, ROOT, hub_command(run.path, "quick"))
        until(lambda: read_manifest(run).state == "done")
        tried, asked, *_ = (folder / "asked").read_text().splitlines()
        assert tried == "--user --scope --quiet --collect true"
        assert asked.startswith(f"--user --scope --quiet --collect --description=tuitune {run.name} -- ")
    finally:
        remove_sockets(run.path)


def test_a_hub_elsewhere_is_started_by_itself(box, tmp_path: Path) -> None:
    folder = box(SERVICE, busctl=KILLS, loginctl=LINGERS, systemd_run=TAKES)
    run = create_run(tmp_path / "runs", "demo", RECIPE)
    write_manifest(run, Manifest(name="demo", recipe_path=str(tmp_path / "demo.yaml"), workspace=str(tmp_path)))
    try:
        start_hub(run, ROOT, hub_command(run.path, "quick"))
        assert not (folder / "asked").exists()
        until(lambda: read_manifest(run).state == "done")
    finally:
        remove_sockets(run.path)
