"""What the token view asks the analyst, from a thread: everything comes back as messages, an analyst that died is asked once more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from textual.message import Message

from tuitune.analyst.client import Cancelled, Died
from tuitune.analyst.document import Inspection
from tuitune.analyst.survey_document import Survey
from tuitune.errors import UserError
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.client import Analyst

SHOWN = 256  # rows that are found, or have a fault, that are prepared and shown at most


class Word(Message):
    """What the analyst does, or why it failed."""

    def __init__(self, text: str, failed: bool = False) -> None:
        super().__init__()
        self.text, self.failed = text, failed


class Told(Word):
    """While nothing can be shown."""


class Counting(Word):
    """While it looks at all rows, beside what is shown."""


class Inspected(Message):
    """Rows to show; `found` says what they have in common when they were searched for."""

    def __init__(self, inspection: Inspection, found: str) -> None:
        super().__init__()
        self.inspection, self.found = inspection, found


class Surveyed(Message):
    """All rows have been looked at."""

    def __init__(self, survey: Survey) -> None:
        super().__init__()
        self.survey = survey


class Lost(Message):
    """The analyst died and was started again."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


@dataclass(frozen=True)
class Asking:
    """One load of the view: `rows` to show (`found`: what they have in common), or what to `find`, else a sample; then figures over the
    whole set if they are `wanted`."""

    analyst: Analyst
    path: Path
    post: Callable[[Message], object]
    cancel: threading.Event
    rows: list[int] | None
    find: str
    wanted: bool
    found: str = ""

    def run(self) -> None:
        """Ask; to be called in a thread."""
        rows, found = self.rows, self.found
        if self.find:
            answer = self._request("find", {"what": self.find}, Told)
            if answer is None:
                return
            rows, name = answer["rows"][:SHOWN], printable(self.find, limit=40)
            if not rows:
                self._post(Told(f"None of {answer['looked']:,} rows has {name}. f: the sample again, /: search again"))
                return
            first = f"the first {len(rows)} of " if len(rows) < answer["count"] else ""
            found = f"{first}{answer['count']:,} of {answer['looked']:,} rows that have {name}"
        answer = self._request("inspect", {} if rows is None else {"rows": rows}, Told)
        if answer is None:
            return
        self._post(Inspected(msgspec.convert(answer, Inspection, strict=False), found))
        if self.wanted and (answer := self._request("survey", {}, Counting)) is not None:
            self._post(Surveyed(msgspec.convert(answer, Survey)))

    def _post(self, message: Message) -> None:
        if not self.cancel.is_set():
            self.post(message)

    def _request(self, op: str, args: dict[str, Any], kind: type[Word]) -> dict[str, Any] | None:
        """The answer, None when there is none (told, or cancelled)."""

        def ask() -> dict[str, Any]:
            return self.analyst.request(
                op,
                {"recipe": str(self.path), **args},
                progress=lambda text: self._post(kind(f"{text} …")),
                cancel=self.cancel,
            )

        try:
            try:
                return ask()
            except Died as error:
                self._post(Lost(f"{error}. Asking again."))
                self._post(kind("the analyst died; it has been started again …"))
                return ask()
        except Cancelled:
            return None
        except UserError as error:
            self._post(kind(str(error), failed=True))
            return None
