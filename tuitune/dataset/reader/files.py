"""A data file of any format as a RowFile."""

from pathlib import Path

from tuitune.dataset.reader.json_file import open_json
from tuitune.dataset.reader.row_file import RowFile
from tuitune.dataset.reader.text_file import TextFile
from tuitune.dataset.sources import checked_format, told_as_sentences


def open_rows(path: Path) -> RowFile:
    """Open a file; UserError when it is not there, may not be read, or is damaged at its head."""
    kind = checked_format(path)
    with told_as_sentences(path):
        if kind in ("parquet", "arrow"):
            from tuitune.dataset.reader.table_file import ArrowFile, ParquetFile  # loads pyarrow

            return ParquetFile(path) if kind == "parquet" else ArrowFile(path)
        return open_json(path) if kind == "json" else TextFile(path)
