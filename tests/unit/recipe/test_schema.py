"""Making and caching the schema, with a stand-in for the interpreter that runs the exporter."""

import json
import sys
import threading
import time
from pathlib import Path

import pytest

from tuitune.errors import UserError
from tuitune.recipe.schema import cache_path, cached_schema, load_schema

from .conftest import DOCUMENT


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def exporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shell script in the place of Python: it counts its runs and prints the small schema."""
    (tmp_path / "document.json").write_text(json.dumps(DOCUMENT))
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\necho run >> {tmp_path}/runs\ncat {tmp_path}/document.json\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return script


def runs(exporter: Path) -> int:
    file = exporter.parent / "runs"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_the_schema_is_exported_once_and_then_read_from_the_cache(exporter: Path) -> None:
    said: list[str] = []
    assert cached_schema() is None
    schema = load_schema(said.append)
    assert schema.tasks["sft"].config == "SFTConfig"
    assert len(said) == 1
    assert load_schema(said.append) == schema
    assert cached_schema() == schema
    assert (runs(exporter), len(said)) == (1, 1)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 0}', b"\xff\xfe", b'{"format": 1, "versions": 3}'])
def test_a_broken_cache_is_made_again(content: bytes, exporter: Path) -> None:
    cache_path().write_bytes(content)
    assert cached_schema() is None
    assert load_schema().tasks["dpo"].config == "DPOConfig"
    assert cached_schema() is not None


def test_another_version_set_has_another_cache_file(exporter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_schema()
    first = cache_path()
    monkeypatch.setattr("tuitune.recipe.schema.installed_versions", lambda: {"trl": "9.9"})
    assert cache_path() != first
    assert cached_schema() is None


def test_another_exporter_has_another_cache_file(exporter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cache_path()
    (tmp_path / "tuitune" / "analyst").mkdir(parents=True)
    (tmp_path / "tuitune" / "analyst" / "export_schema.py").write_text("a newer one")
    monkeypatch.setattr("tuitune.recipe.schema.__file__", str(tmp_path / "tuitune" / "recipe" / "schema.py"))
    assert cache_path() != first


def test_a_failed_export_gives_the_reason(exporter: Path) -> None:
    exporter.write_text("#!/bin/sh\necho noise >&2\necho \"ImportError: No module named 'trl'\" >&2\nexit 1\n")
    with pytest.raises(UserError, match=r"could not be read: ImportError: No module named 'trl' \(install them with"):
        load_schema()
    assert not cache_path().exists()


def test_an_export_that_prints_nonsense_is_not_cached(exporter: Path) -> None:
    exporter.write_text("#!/bin/sh\necho '{}'\n")
    with pytest.raises(UserError, match="could not be understood"):
        load_schema()
    assert not cache_path().exists()


def test_an_export_that_never_ends_is_stopped(exporter: Path) -> None:
    exporter.write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(UserError, match="took longer than 0 s"):
        load_schema(time_limit_s=0.3)


def test_an_export_can_be_cancelled_from_another_thread(exporter: Path) -> None:
    exporter.write_text("#!/bin/sh\nexec sleep 60\n")
    cancel = threading.Event()
    threading.Timer(0.2, cancel.set).start()
    started = time.monotonic()
    with pytest.raises(UserError, match="cancelled"):
        load_schema(cancel=cancel)
    assert time.monotonic() - started < 30


def test_a_cache_that_cannot_be_written_does_not_hinder(exporter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tuitune.recipe.schema.write_atomically", full)
    assert load_schema().tasks
