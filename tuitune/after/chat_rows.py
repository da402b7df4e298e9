"""A turn of a chat as a training row: appended to a JSONL file in the format that `columns: {messages: messages}` reads. No torch."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from tuitune.errors import UserError
from tuitune.text import printable

DEFAULT_FILE = "data/chat.jsonl"  # in the workspace


def append_row(path: Path, messages: Sequence[dict[str, str]]) -> int:
    """Append one row {"messages": …} and return the file's number of rows. The file is made when it is not there; a last line without its
    line feed is ended first. UserError when the disk refuses or the file is something else."""
    if path.suffix not in (".jsonl", ".ndjson"):
        raise UserError(f"{printable(str(path))}: rows are appended to a .jsonl file; name one")
    line = json.dumps({"messages": list(messages)}, ensure_ascii=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            size = file.seek(0, os.SEEK_END)
            torn = False
            if size:
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"
            file.write((b"\n" if torn else b"") + line.encode("utf-8", "replace") + b"\n")
        with path.open("rb") as file:
            return sum(1 for row in file if row.strip())
    except OSError as error:
        raise UserError(f"{printable(str(path))}: the row cannot be written ({error.strerror})") from error
