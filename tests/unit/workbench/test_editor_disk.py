"""A recipe on disk: only edited lines change, byte for byte; what may not be edited says why."""

import os
from pathlib import Path

import pytest

from tuitune.errors import UserError
from tuitune.workbench.views.recipe import disk
from tuitune.workbench.views.recipe.find_bar import places


@pytest.mark.parametrize(
    ("raw", "old", "new", "expected"),
    [
        (b"a: 1\nb: 2\n", "a: 1", "a: 9", b"a: 9\nb: 2\n"),
        (b"a: 1\r\nb: 2\r\n", "a: 1", "a: 9\nc: 3", b"a: 9\r\nc: 3\r\nb: 2\r\n"),
        (b"a: 1\r\nb: 2\nc: 3", "b: 2", "b: 9", b"a: 1\r\nb: 9\nc: 3"),
        (b"\xef\xbb\xbfa: 1\n", "a: 1", "a: 9", b"\xef\xbb\xbfa: 9\n"),
        (b"# \xc3\xbcml\xc3\xa4ut   \n\n\na: 1", "a: 1", "a: 1\n", b"# \xc3\xbcml\xc3\xa4ut   \n\n\na: 1\n"),
    ],
    ids=["plain", "windows", "mixed", "byte order mark", "blanks and a new last line"],
)
def test_only_the_edited_lines_change(tmp_path: Path, raw: bytes, old: str, new: str, expected: bytes) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(raw)
    file = disk.read(path)
    saved = disk.write(file, file.text.replace(old, new))
    assert path.read_bytes() == expected
    assert saved.stamp == disk.stamp(path)


def test_the_mode_of_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("a: 1\n")
    path.chmod(0o640)
    disk.write(disk.read(path), "a: 2\n")
    assert path.stat().st_mode & 0o777 == 0o640


def test_saving_through_a_link_changes_the_file_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    real, link = tmp_path / "shared" / "real.yaml", tmp_path / "r.yaml"
    real.write_text("a: 1\n")
    link.symlink_to(real)
    saved = disk.write(disk.read(link), "a: 2\n")
    assert link.is_symlink()
    assert real.read_text() == "a: 2\n"
    assert saved.path == link
    assert saved.stamp == disk.stamp(link)


@pytest.mark.parametrize(
    ("raw", "word"), [(b"a: \xff\n", "UTF-8"), (b"a: 1\rb: 2\n", "line ends"), ("a: 1\u2028b\n".encode(), "line ends")]
)
def test_what_cannot_be_written_back_as_it_was_is_read_only_and_says_why(tmp_path: Path, raw: bytes, word: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(raw)
    assert word in disk.read(path).read_only


def test_a_missing_and_a_huge_file_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        disk.read(tmp_path / "none.yaml")
    (tmp_path / "huge.yaml").write_bytes(b"#" * (disk.MAX_BYTES + 1))
    with pytest.raises(UserError, match="1 MiB"):
        disk.read(tmp_path / "huge.yaml")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("a: 1\n")
    file = disk.read(path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        disk.write(file, "a: 2\n")
    assert path.read_text() == "a: 1\n"


def test_find_minds_capitals_only_when_told_to() -> None:
    assert places("Rate\nlearning_rate: rate", "rate") == [(0, 0), (1, 9), (1, 15)]
    assert places("Rate\nrate", "Rate", exact=True) == [(0, 0)]
    assert places("a.b", ".") == [(0, 1)]
    assert places("x", "") == []
