"""How long the terminal takes to answer: asked behind a paint of a live part, so that an idle workbench sends nothing.

The question is where the cursor is (CSI 6 n), which every terminal answers and Textual hands on as `events.CursorPosition`; the answer
comes behind what was sent before it, so a line that carries little counts as well as one that is long. Inside tmux, screen or mosh it is
these that answer: there only a blocked line is noticed (tuitune.workbench.pace), or what the user calls it. Imports nothing of Textual.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

from tuitune.workbench.pace import FAR, Link

QUESTION = "\x1b[6n"
PERIOD, AGAIN = 10.0, 1.0  # seconds between questions: while the answers agree, and while they do not
LOST = 30.0  # seconds after which an answer is not waited for any more
TRIES = 3  # unanswered questions after which none is asked
LEAVE = 1.0  # seconds that leaving waits for an answer


class RoundTrip:
    """Feeds `link`; `write` sends to the terminal."""

    def __init__(self, link: Link, write: Callable[[str], None]) -> None:
        self._link, self._write = link, write
        self._asked: float | None = None  # when, while the answer is awaited
        self._due = 0.0
        self._answers = self._lost = 0

    def painted(self) -> None:
        """Something was sent: ask behind it when it is time to."""
        now = monotonic()
        if self._asked is not None:
            waited = now - self._asked
            if waited < LOST:
                if self._answers and waited > FAR:  # it did answer before: the line stands still
                    self._link.round_trip(waited)
                return
            self._asked, self._lost = None, self._lost + 1
        if self._link.pinned == "auto" and self._lost < TRIES and now >= self._due:
            self._asked = now
            self._write(QUESTION)

    def answered(self, when: float) -> None:
        """The terminal's answer was read then (of the monotonic clock)."""
        if self._asked is None:
            return  # nobody asked: a key that looks like it (Shift+F3 of some terminals)
        seconds, self._asked, self._lost = when - self._asked, None, 0
        self._answers += 1
        self._link.round_trip(seconds)
        self._due = when + (PERIOD if self._link.settled else AGAIN)

    async def settle(self) -> None:
        """Before leaving: an answer on its way would be typed into the shell."""
        deadline = monotonic() + LEAVE
        while self._asked is not None and self._answers and monotonic() < deadline:
            await asyncio.sleep(0.02)
