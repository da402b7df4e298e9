"""The thread that looks at the folder: it never ends without a word."""

from pathlib import Path
from queue import SimpleQueue

import pytest

from tuitune.workbench import watch
from tuitune.workbench.watch import Seen, Watch


def test_a_look_that_breaks_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no such disk")

    scan = watch.scan
    monkeypatch.setattr(watch, "PERIOD", 0.02)
    monkeypatch.setattr(watch, "scan", broken)
    told: SimpleQueue[Seen] = SimpleQueue()
    thread = Watch(tmp_path, tmp_path / "runs", told.put, lambda: None, None)
    thread.start()
    try:
        assert "no such disk" in told.get(timeout=5).error
        monkeypatch.setattr(watch, "scan", scan)
        thread.refresh()
        assert told.get(timeout=5).error == ""
    finally:
        thread.stop()
