"""Opening and scrolling big data files: a parquet of a million rows and a jsonl of 2 GB, through the reader and through the workbench.

The files are made in a temporary folder (TUITUNE_BENCH_DIR, else the system's) and removed at the end. `first_rows_s` includes the start
of a reader process, as when the first data file is opened; memory is PSS in MiB, the highest that was seen every 5 ms.
"""

import threading
import time
from pathlib import Path
from typing import Any

from tuitune.dataset.reader.client import Reader

ROWS = 1_000_000
JSONL_BYTES = 2 * 10**9
NEEDED = 4 * 10**9  # bytes free, both files and some air
BATCH = 20_000
MIB = 1 << 20


def make_parquet(path: Path) -> None:
    """A million rows in one row group, which is what pyarrow writes by itself and the hardest to jump in."""
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([("question", pyarrow.string()), ("answer", pyarrow.string())])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        table = pyarrow.table({"question": [question(n) for n in range(ROWS)], "answer": [answer(n) for n in range(ROWS)]}, schema)
        writer.write_table(table)


def make_jsonl(path: Path) -> int:
    """As many rows as fill JSONL_BYTES; their number."""
    import json

    rows = 0
    with path.open("w") as file:
        while file.tell() < JSONL_BYTES:
            for row in range(rows, rows + BATCH):
                file.write(json.dumps({"question": question(row), "answer": answer(row)}) + "\n")
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

    def __init__(self, pid: int) -> None:
        self.mib = 0.0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.005):
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
        "rows": expected,
        "jump_to_the_end_s": round(jumped, 3),
        "page_up_from_there_s": round(backed, 3),
        "reader_peak_mib": memory,
    }
