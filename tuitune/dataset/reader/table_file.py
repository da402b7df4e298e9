"""Rows of parquet and Arrow files, a batch at a time. pyarrow is loaded with the first of them."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from tuitune.dataset.reader.row_file import Reading, RowFile, Sieve, Turn
from tuitune.dataset.sources import arrow_batches, batch_rows, table_told_as_sentences, told_as_sentences
from tuitune.errors import UserError

BATCH_ROWS, BATCH_BYTES = 1024, 2 << 20  # decoded at a time, whichever is less
KEPT_BYTES = 16 << 20  # of the batches decoded last: a step back must not decode a row group from its beginning


class ParquetFile(RowFile):
    """The footer says how many rows there are. A row group is decoded from its beginning to reach a row in it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reopen()
        metadata = self._file.metadata
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        self._starts = [0, *accumulate(group.num_rows for group in groups)]
        self.known, self.complete = metadata.num_rows, True
        mean = max(1, sum(group.total_byte_size for group in groups) // max(1, self.known))
        self._batch = max(1, min(BATCH_ROWS, BATCH_BYTES // mean))
        largest = max((group.num_rows for group in groups), default=0)
        self.slow = f"row groups of {largest:,} rows are decoded from their beginning" if largest > 200_000 else ""

    def reopen(self) -> None:
        with told_as_sentences(self.path), table_told_as_sentences(self.path, "parquet"):
            import pyarrow.parquet

            # buffered: else each column of a row group is read whole, which may be gigabytes
            self._file = pyarrow.parquet.ParquetFile(self.path, buffer_size=256 << 10, pre_buffer=False)
        self._kept: deque[tuple[int, Any]] = deque()
        self._going: tuple[int, Iterator[Any]] | None = None  # batches from a row on

    @property
    def columns(self) -> list[str]:
        return list(self._file.schema_arrow.names)

    def read(self, start: int, sieve: Sieve | None = None) -> Reading:
        turn = Turn()
        with told_as_sentences(self.path), table_told_as_sentences(self.path, "parquet"):
            for first, batch in self._batches_to(start):
                skipped = max(0, start - first)
                if skipped < batch.num_rows:
                    yield from enumerate(batch_rows(batch.slice(skipped), self.path, first + skipped), first + skipped)
                elif turn.over():
                    yield None

    def _batches_to(self, start: int) -> Iterator[tuple[int, Any]]:
        """Batches that lead to a row and go on behind it, those kept first."""
        for first, batch in list(self._kept):
            if first <= start < first + batch.num_rows:
                yield first, batch
                start = first + batch.num_rows
        if start < self.known:
            yield from self._decoded(start)

    def _decoded(self, start: int) -> Iterator[tuple[int, Any]]:
        group = bisect_right(self._starts, start) - 1
        going, self._going = self._going, None
        if going is not None and self._starts[group] <= going[0] <= start:
            first, batches = going
        else:
            first = self._starts[group]
            groups = list(range(group, len(self._starts) - 1))
            batches = self._file.iter_batches(batch_size=self._batch, row_groups=groups, use_threads=False)
        try:
            for batch in batches:
                self._keep(first, batch)
                start, first = first, first + batch.num_rows
                yield start, batch
        finally:
            self._going = first, batches  # whoever comes next can go on from here; two at a time would take batches from each other

    def _keep(self, first: int, batch: Any) -> None:
        self._kept.append((first, batch))
        while len(self._kept) > 1 and sum(kept.nbytes for _, kept in self._kept) > KEPT_BYTES:
            self._kept.popleft()

    def close(self) -> None:
        self._file.close()


class ArrowFile(RowFile):
    """Memory-mapped; the batches are found one after the other, which touches little of the file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with told_as_sentences(path), table_told_as_sentences(path, "Arrow"):
            import pyarrow

            self._source = pyarrow.memory_map(str(path))
            turns = arrow_batches(self._source)
            first = next(turns, None)
        self._batches = [] if first is None else [first]
        self._starts = [0, *(batch.num_rows for batch in self._batches)]
        self._rest = turns
        self.known = self._starts[-1]

    @property
    def columns(self) -> list[str]:
        return list(self._batches[0].schema.names) if self._batches else []

    def count(self) -> Iterator[None]:
        turn = Turn()
        try:
            with told_as_sentences(self.path), table_told_as_sentences(self.path, "Arrow"):
                for batch in self._rest:
                    self._batches.append(batch)
                    self._starts.append(self._starts[-1] + batch.num_rows)
                    self.known = self._starts[-1]
                    if turn.over():
                        yield None
        except UserError as error:
            self.problem = str(error)
        self.complete = True

    def read(self, start: int, sieve: Sieve | None = None) -> Reading:
        at = bisect_right(self._starts, start) - 1
        while at < len(self._batches):
            first, batch = self._starts[at], self._batches[at]
            skipped = max(0, start - first)
            for offset in range(skipped, batch.num_rows, BATCH_ROWS):
                rows = batch.slice(offset, BATCH_ROWS)
                yield from enumerate(batch_rows(rows, self.path, first + offset), first + offset)
            at += 1

    def close(self) -> None:
        self._batches.clear()
        self._source.close()
