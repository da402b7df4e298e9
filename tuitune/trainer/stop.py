"""The wish that a run ends: of a signal, or of a `stop` command."""

import signal
from types import FrameType


class StopNow(BaseException):
    """There is nothing to save yet: the run ends where it is. No Exception, so that nobody takes it for a failure of his own."""


class StopRequest:
    """Looked at at every boundary. Before `begin` a signal ends the run at once. `suspended`: the run means to go on later."""

    def __init__(self) -> None:
        self.asked = False
        self.begun = False
        self.save = True
        self.suspended = False
        self.why = ""

    def ask(self, why: str, *, save: bool = True, suspended: bool = False) -> None:
        """Stop at the next boundary."""
        self.asked, self.why, self.save, self.suspended = True, why, save, suspended

    def begin(self) -> None:
        """Training begins: from now on a stop waits for the boundary."""
        self.begun = True

    def listen_to_signals(self) -> None:
        """SIGTERM and SIGINT save and end; the second one aborts. A hang-up is nothing to a run."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self.asked:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.ask(signal.Signals(number).name)
        if not self.begun:
            raise StopNow
