"""What a dataset view asks the reader, from threads: answers and refusals become messages, a reader that died is asked again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.message import Message

from tuitune.errors import UserError
from tuitune.text import printable
from tuitune.workbench.views.dataset.news import Touched

if TYPE_CHECKING:
    from tuitune.dataset.reader.client import Reader

TRIES = 3  # a request that kills the reader three times is given up


class Answered(Message):
    """The reader's answer to a request; `args` and `cancel` are what was asked with, `era` which reading of the file it belongs to."""

    def __init__(self, op: str, args: dict[str, Any], answer: dict[str, Any], era: int, cancel: threading.Event | None) -> None:
        super().__init__()
        self.op, self.args, self.answer, self.era, self.cancel = op, args, answer, era, cancel


class Refused(Message):
    """A request came to nothing: the sentence, or "" when it was withdrawn."""

    def __init__(self, op: str, text: str, era: int, cancel: threading.Event | None) -> None:
        super().__init__()
        self.op, self.text, self.era, self.cancel = op, text, era, cancel


class Progressed(Message):
    """How far a scan is."""

    def __init__(self, text: str, cancel: threading.Event | None) -> None:
        super().__init__()
        self.text, self.cancel = text, cancel


class Restarted(Message):
    """The reader had died and was started again."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class Asking:
    """The requests of one view about one file. `post` may be called from any thread."""

    def __init__(self, reader: Reader, path: Path, post: Callable[[Message], object]) -> None:
        self.reader = reader
        self.path = path
        self.era = 0
        self.ended = threading.Event()  # the view is gone
        self._post = post
        self._starts = reader.starts
        self._lock = threading.Lock()

    def ask(
        self, op: str, cancel: threading.Event | None = None, progress: Callable[[str], None] | None = None, **args: Any
    ) -> dict[str, Any]:
        """The answer. UserError when it is refused, Cancelled when it is withdrawn."""
        from tuitune.analyst.client import Died

        died = ""
        for attempt in range(1, TRIES + 1):
            try:
                answer = self.reader.request(op, {"path": str(self.path), **args}, progress=progress, cancel=cancel or self.ended)
                break
            except Died as error:
                died = str(error)
                if attempt == TRIES:
                    raise UserError(f"{died.partition(';')[0]}, {TRIES} times; try another row or file") from error
        self._tell_of_restart(died)
        return answer

    def _tell_of_restart(self, died: str) -> None:
        with self._lock:
            before, self._starts = self._starts, self.reader.starts
        if 0 < before < self.reader.starts:
            reason = died.partition("(")[2].partition(")")[0] or "it was ended from outside"
            self._post(Restarted(f"The reader died ({reason}) and was started again; nothing is lost."))

    def send(self, op: str, cancel: threading.Event | None = None, **args: Any) -> None:
        """Ask, and post the answer or the refusal."""
        from tuitune.analyst.client import Cancelled

        era = self.era
        try:
            answer = self.ask(op, cancel, lambda text: self._tell(Progressed(text, cancel)), **args)
        except Cancelled:
            self._tell(Refused(op, "", era, cancel))
        except UserError as error:
            self._tell(Refused(op, str(error), era, cancel))
        else:
            self._tell(Answered(op, args, answer, era, cancel))

    def look_at_disk(self, known: list[int]) -> None:
        """Say so when the file is not the one whose stamp is known."""
        from tuitune.dataset.reader.row_file import stamp_of

        try:
            if list(stamp_of(self.path)) != known:
                self._tell(Touched(False))
        except OSError:
            self._tell(Touched(True))

    def here(self, sentence: str) -> str:
        """A sentence about this file without the way to it, which stands above the rows anyway."""
        return sentence.replace(printable(str(self.path)), printable(self.path.name))

    def _tell(self, message: Message) -> None:
        if not self.ended.is_set():
            self._post(message)
