"""The reader thread between a run's journal and the event loop: whole, bounded, quiet, and gone when it is told to go."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, perf_counter, sleep

from tests.support import journals
from tuitune.bus.journal import Journal
from tuitune.workbench import run_feed
from tuitune.workbench.run_feed import RunFeed


def run_directory(root: Path, records: int = 0) -> Path:
    run = root / "gsm8k-20261120-101500"
    (run / "journal").mkdir(parents=True)
    journals.append(run, "trainer-1", journals.numbered(journals.trainer_records(records, max_steps=max(1, records))))
    return run


@contextmanager
def feed_of(run: Path, notify: Callable[[], object] = lambda: None) -> Iterator[RunFeed]:
    feed = RunFeed(run, notify)
    feed.start()
    try:
        yield feed
    finally:
        feed.stop()


def until(feed: RunFeed, condition: Callable[[], object], seconds: float = 60) -> None:
    """Play the event loop until the condition holds."""
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, "the feed did not get there in time"
        feed.advance()
        sleep(0.005)


def test_the_whole_history_is_there_and_then_what_is_appended(tmp_path: Path) -> None:
    run = run_directory(tmp_path, 500)
    with feed_of(run) as feed:
        until(feed, lambda: not feed.replaying and feed.state.step == 500)
        assert list(feed.state.metrics["loss"].xs) == list(range(1, 501))
        journal = Journal(run / "journal" / "trainer-1.jsonl")
        journal.emit("metrics", step=501, max_steps=600, loss=0.25)
        until(feed, lambda: feed.state.step == 501)
        assert feed.state.metrics["loss"].last == 0.25
        journal.close()


def test_a_second_viewer_reads_the_same_run_for_itself(tmp_path: Path) -> None:
    run = run_directory(tmp_path, 60)
    with feed_of(run) as one, feed_of(run) as other:
        until(one, lambda: one.state.step == 60)
        until(other, lambda: other.state.step == 60)
        assert list(one.state.metrics["loss"].ys) == list(other.state.metrics["loss"].ys)


def test_the_event_loop_is_told_once_per_flush_never_per_record(tmp_path: Path) -> None:
    run = run_directory(tmp_path)
    told: list[float] = []
    with feed_of(run, lambda: told.append(monotonic())) as feed:
        until(feed, lambda: not feed.replaying)
        told.clear()
        journal, started = Journal(run / "journal" / "trainer-1.jsonl"), monotonic()
        for step in range(1, 2001):
            journal.emit("metrics", step=step, loss=1.0)
        until(feed, lambda: feed.state.step == 2000)
        assert len(told) <= 3 + (monotonic() - started) / run_feed.LIVE
        journal.close()


def test_the_event_loop_spends_only_its_budget_at_a_time(tmp_path: Path) -> None:
    run = run_directory(tmp_path, 5000)
    with feed_of(run) as feed:
        sleep_until(lambda: len(feed._waiting) > 3000)
        started = perf_counter()
        assert feed.advance(0.002), "there is more to take"
        assert perf_counter() - started < 0.25, "64 records past the budget at most, however slow the machine"
        assert 0 < feed.state.records < 5000


def test_records_nobody_takes_wait_in_the_journal_not_in_memory(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(run_feed, "WAITING", 1000)
    run = run_directory(tmp_path, 6000)
    with feed_of(run) as feed:
        sleep_until(lambda: len(feed._waiting) >= 1000)
        held = len(feed._waiting)
        sleep_until(lambda: len(feed._waiting) != held, seconds=0.3, required=False)
        assert len(feed._waiting) == held < 4000
        until(feed, lambda: feed.state.step == 6000)


def test_a_torn_last_line_is_passed_over_until_it_is_whole(tmp_path: Path) -> None:
    run = run_directory(tmp_path, 10)
    path = run / "journal" / "trainer-1.jsonl"
    with path.open("ab") as file, feed_of(run) as feed:
        file.write(b'{"v":1,"n":99,"t":1.0,"ev":"metr')
        file.flush()
        until(feed, lambda: not feed.replaying and feed.state.step == 10)
        file.write(b'ics","step":11,"loss":0.5}\n')
        file.flush()
        until(feed, lambda: feed.state.step == 11)


def test_a_directory_that_is_deleted_leaves_what_was_read_and_a_sentence(tmp_path: Path) -> None:
    run = run_directory(tmp_path, 20)
    with feed_of(run) as feed:
        until(feed, lambda: feed.state.step == 20)
        shutil.rmtree(run)
        until(feed, lambda: feed.problem)
        assert "is gone" in feed.problem
        assert feed.state.step == 20


def test_a_run_whose_hub_died_without_a_word_is_lost(tmp_path: Path) -> None:
    run = journals.write_run(tmp_path, final=None)
    with feed_of(run) as feed:
        until(feed, lambda: feed.state.state == "lost")
        assert "without a last word" in feed.state.why


def test_a_run_that_ended_in_order_is_not_lost(tmp_path: Path) -> None:
    run = journals.write_run(tmp_path, final="done")
    with feed_of(run) as feed:
        until(feed, lambda: feed._fate and not feed.replaying)
        feed.advance()
        assert feed.state.state == "done"


def test_stopping_ends_the_thread(tmp_path: Path) -> None:
    run = run_directory(tmp_path, 10)
    before = threading.active_count()
    with feed_of(run):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def sleep_until(condition: Callable[[], object], seconds: float = 20, *, required: bool = True) -> None:
    deadline = monotonic() + seconds
    while not condition():
        if monotonic() > deadline:
            assert not required, "it did not happen in time"
            return
        sleep(0.005)
