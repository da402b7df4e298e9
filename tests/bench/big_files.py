"""Opening and scrolling big data files: a parquet of a million rows and a jsonl of 2 GB, through the reader and through the workbench.

The files are made in a temporary folder (TUITUNE_BENCH_DIR, else the system's) and removed at the end. `first_rows_s` includes the start
of a reader process, as when the first data file is opened; memory is PSS in MiB, the highest that was seen.
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from tuitune.dataset.reader.client import Reader

ROWS = 1_000_000
JSONL_BYTES = 2 * 10**9
NEEDED = 4 * 10**9  # bytes free, both files and some air
BATCH = 20_000
PAGES = 100  # keys pressed in a row
KEYS_PER_SECOND = 30
MIB = 1 << 20


def make_parquet(path: Path) -> int:
    """A million rows in one row group, which is what pyarrow writes by itself and the hardest to jump in; their number."""
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([("question", pyarrow.string()), ("answer", pyarrow.string())])
    table = pyarrow.table({"question": [question(n) for n in range(ROWS)], "answer": [answer(n) for n in range(ROWS)]}, schema)
    pyarrow.parquet.write_table(table, path, row_group_size=ROWS)
    return ROWS


def make_jsonl(path: Path) -> int:
    """As many rows as fill JSONL_BYTES; their number."""
    rows = size = 0
    with path.open("w") as file:
        while size < JSONL_BYTES:
            size += file.write("".join(f'{{"question": "{question(n)}", "answer": "{answer(n)}"}}\n' for n in range(rows, rows + BATCH)))
            rows += BATCH
    return rows


def question(row: int) -> str:
    return f"Natalia sold clips to {row} of her friends in April, and then she sold half as many clips in May. How many in both months?"


def answer(row: int) -> str:
    return (
        f"Natalia sold {row}/2 = <<{row}/2={row / 2}>>{row / 2} clips in May. "
        + "She counted them all again. " * (row % 17)
        + f"#### {row}"
    )


def pss(pid: int) -> float:
    """MiB of a process; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Pss:")) / 1024
    except (OSError, StopIteration):
        return 0.0


class Peak:
    """The highest memory of a process while it is watched."""

    def __init__(self, pid: int, every: float = 0.005) -> None:
        self.mib = 0.0
        self._pid, self._every = pid, every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(self._every):
            self.mib = max(self.mib, pss(self._pid))

    def end(self) -> float:
        """Stop watching; the peak in MiB."""
        self._over.set()
        self._thread.join()
        return round(self.mib, 1)


def through_reader(path: Path, expected: int) -> dict[str, Any]:
    """A reader process from its start to the last rows."""
    reader = Reader()
    began = time.monotonic()
    reader.start()
    process = reader._process
    assert process is not None
    peak = Peak(process.pid)
    first = reader.request("rows", {"path": str(path), "start": 0, "count": 100})
    shown = time.monotonic() - began
    assert len(first["rows"]) == 100
    known = first["known"]
    while not (state := reader.request("count", {"path": str(path), "known": known}))["complete"]:
        known = state["known"]
    counted = time.monotonic() - began
    assert state["known"] == expected, state
    jump = time.monotonic()
    last = reader.request("rows", {"path": str(path), "start": expected - 100, "count": 100})
    jumped = time.monotonic() - jump
    assert str(expected - 1) in last["rows"][-1]["cells"][0][1]
    back = time.monotonic()
    reader.request("rows", {"path": str(path), "start": expected - 200, "count": 100})
    backed = time.monotonic() - back
    memory = peak.end()
    reader.close()
    return {
        "first_rows_s": round(shown, 3),
        "counted_s": round(counted, 2),
        "jump_to_the_end_s": round(jumped, 3),
        "page_up_from_there_s": round(backed, 3),
        "peak_mib": memory,
    }


async def through_workbench(path: Path, rows: int) -> dict[str, Any]:
    """The real workbench without a terminal: pages down, to the end, pages up and down there, to the beginning and to the end again."""
    from textual import events

    from tuitune.workbench.app import Workbench
    from tuitune.workbench.views.dataset_view import DatasetView

    app = Workbench(path.parent, path)
    async with app.run_test(size=(120, 40)):
        lag = Lag()
        peak = Peak(os.getpid(), 0.1)
        started = time.monotonic()

        def view() -> DatasetView | None:
            active = app.editor.active
            return active if isinstance(active, DatasetView) else None

        async def until(row: int) -> float:
            """Seconds until that row is drawn."""
            began = time.monotonic()
            while (now := view()) is None or row not in now._lines.rows:
                assert time.monotonic() - began < 60, f"row {row} never came\n{vars(now)}"
                await asyncio.sleep(0.005)
            return round(time.monotonic() - began, 3)

        async def press(*keys: str) -> None:
            """Keys as a terminal repeats them while one is held."""
            for key in keys:
                app.post_message(events.Key(key, None))
                await asyncio.sleep(1 / KEYS_PER_SECOND)

        first = await until(0)
        await press(*["pagedown"] * PAGES, "end")
        end = await until(rows - 1)
        await press(*["pageup"] * PAGES, *["pagedown"] * (PAGES // 2), "home")
        await until(0)
        await press("end")
        again = await until(rows - 1)
        return {
            "first_rows_s": first,
            "end_s": end,
            "end_again_s": again,
            "seconds": round(time.monotonic() - started, 1),
            "loop_lag_ms": lag.end(),
            "peak_mib": peak.end(),
        }


class Lag:
    """How late the event loop wakes a task that sleeps 5 ms: what everything else in the loop waits at most."""

    def __init__(self) -> None:
        self._late: list[float] = []
        self._task = asyncio.get_running_loop().create_task(self._measure())

    async def _measure(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            self._late.append(time.monotonic() - before - 0.005)

    def end(self) -> dict[str, float]:
        """Milliseconds."""
        self._task.cancel()
        late = sorted(self._late)
        return {name: round(1000 * late[int(share * (len(late) - 1))], 1) for name, share in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))}


@contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder with room for both files."""
    place = os.environ.get("TUITUNE_BENCH_DIR") or tempfile.gettempdir()
    free = shutil.disk_usage(place).free
    if free < NEEDED:
        raise SystemExit(f"{place} has {free / 1e9:.1f} GB free, the bench needs {NEEDED / 1e9:.0f}; name another with TUITUNE_BENCH_DIR")
    with tempfile.TemporaryDirectory(prefix="tuitune-bench-", dir=place) as made:
        yield Path(made)


def bench(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both files through the reader and through the workbench, each in processes of their own; medians over --runs."""
    found: dict[str, Any] = {}
    with folder() as place:
        for name, make in (("parquet", make_parquet), ("jsonl", make_jsonl)):
            path = place / name / f"rows.{name}"
            path.parent.mkdir()
            rows = make(path)
            found[name] = {
                "rows": rows,
                "bytes": path.stat().st_size,
                "reader": medians([in_process("reader", path, rows) for _ in range(arguments.runs)]),
                "workbench": medians([in_process("workbench", path, rows) for _ in range(arguments.runs)]),
            }
            path.unlink()
    return found


def in_process(part: str, path: Path, rows: int) -> dict[str, Any]:
    """One measurement in a fresh process."""
    command = [sys.executable, "-m", "tests.bench.big_files", part, str(path), str(rows)]
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Each figure's median over the runs."""
    return {
        name: medians([run[name] for run in runs]) if isinstance(value, dict) else median(run[name] for run in runs)
        for name, value in runs[0].items()
    }


if __name__ == "__main__":
    part, path, rows = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    print(json.dumps(through_reader(path, rows) if part == "reader" else asyncio.run(through_workbench(path, rows))))
