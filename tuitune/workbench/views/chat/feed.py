"""Reads a job's journal for its view: what RunFeed reads of any run, and besides what only a job tells. Nothing of Textual."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tuitune.after.chat_state import ChatState, reduce
from tuitune.workbench.run_feed import RunFeed


class ChatFeed(RunFeed):
    """`chat`: the conversation as far as it was read. Event loop only, like `state`."""

    def __init__(self, run: Path, notify: Callable[[], object]) -> None:
        super().__init__(run, notify)
        self.chat = ChatState()

    def take(self, record: dict[str, Any]) -> None:
        """One record into both states."""
        super().take(record)
        reduce(self.chat, record)


class JobFeed(RunFeed):
    """`progress`: the newest such record, `result`: what the job has left; None while there is none."""

    def __init__(self, run: Path, notify: Callable[[], object]) -> None:
        super().__init__(run, notify)
        self.progress: dict[str, Any] | None = None
        self.result: dict[str, Any] | None = None

    def take(self, record: dict[str, Any]) -> None:
        """One record into the state."""
        super().take(record)
        if record.get("ev") == "progress":
            self.progress = record
        elif record.get("ev") == "end" and isinstance(record.get("result"), dict):
            self.result = record["result"]
