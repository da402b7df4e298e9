"""Whole-or-nothing writes."""

import errno
import os
from pathlib import Path

import pytest

from tuitune.files import cache_dir, write_atomically


def test_a_write_replaces_the_file_and_leaves_nothing_else_behind(tmp_path: Path) -> None:
    target = tmp_path / "a.yaml"
    target.write_text("old")
    write_atomically(target, "new ümlaut")
    assert target.read_text() == "new ümlaut"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_keeps_the_old_file_and_no_half_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.yaml"
    target.write_text("old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_cache_follows_the_xdg_variable_and_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "tuitune"
    assert (tmp_path / "tuitune").stat().st_mode & 0o777 == 0o700
