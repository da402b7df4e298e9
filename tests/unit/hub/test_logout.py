"""A box that ends a user's processes at logout is told about, and no other."""

from pathlib import Path

import pytest

from tuitune.hub.logout import threat

SESSION, SERVICE = (
    "0::/user.slice/user-1000.slice/session-3.scope\n",
    "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope\n",
)


def answers(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """logind, asked through a busctl of ours."""
    program = folder / "busctl"
    program.write_text(f'#!/bin/sh\n[ "$5" = KillUserProcesses ] || exit 9\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("cgroup", "script", "warned"),
    [
        (SESSION, "echo b true", True),
        (SESSION, "echo b false", False),
        (SERVICE, "echo b true", False),
        ("0::/system.slice/ssh.service\n", "echo b true", False),
        (SESSION, "echo b true; exit 1", False),
        ("", "echo b true", False),
    ],
)
def test_only_a_run_in_a_session_that_will_be_ended_is_warned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cgroup: str, script: str, warned: bool
) -> None:
    answers(tmp_path, monkeypatch, script)
    (tmp_path / "cgroup").write_text(cgroup)
    told = threat(tmp_path / "cgroup")
    assert (told is not None) == warned
    if told is not None:
        assert "enable-linger" in told
        assert "systemd-run --user --scope" in told


def test_a_box_without_systemd_has_nothing_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "cgroup").write_text(SESSION)
    assert threat(tmp_path / "cgroup") is None
    assert threat(tmp_path / "none") is None
