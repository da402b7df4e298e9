"""A chat from the asking end: wait until its models are loaded, ask, follow what is said. Blocks: in no event loop."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from tuitune.after.chat_state import ChatState, TurnFacts, reduce
from tuitune.bus.client import HubClient
from tuitune.bus.journal import JournalTail
from tuitune.errors import UserError
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import ENDED, read_manifest

POLL_S = 0.03
LIVENESS_S = 1.0  # between looks whether the job still lives
Record = dict[str, Any]


class ChatSession:
    """`state` is the chat as far as it was read."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.state = ChatState()
        self.client = HubClient(run.path)
        self._tail = JournalTail(run.journal)
        self._waiting: deque[Record] = deque()

    def wait_ready(self, say: Callable[[str], object] = lambda text: None) -> None:
        """Until the models are loaded; `say` gets a few words on what it does. UserError with the reason when it does not get there."""
        for record in self._records(lambda: self.state.ready):
            if record.get("ev") in ("state", "warning") and (why := record.get("why") or record.get("text")):
                say(str(why))

    def send(self, op: str, **args: Any) -> Record:
        """A command and the job's answer. UserError with its reason when it is refused."""
        reply = self.client.send(op, args, until="applied", wait_s=60)
        if reply.get("error") or reply.get("s") != "applied":
            raise UserError(str(reply.get("error") or f"{op}: {reply.get('s')}"))
        return reply

    def ask(self, op: str = "ask", **args: Any) -> Iterator[Record]:
        """Ask (or `regenerate`), then the records of the turn (`say`, `said`) until every side has ended."""
        number = self.send(op, **args)["turn"]
        for record in self._records(lambda: False):
            if record.get("ev") == "turn" and record.get("turn") == number:
                break
        yield from self.rest()

    def rest(self) -> Iterator[Record]:
        """What is still to come of the newest turn."""
        number = self.state.turns[-1].number
        for record in self._records(lambda: self.turn(number).over):
            if record.get("turn") == number and record.get("ev") in ("say", "said"):
                yield record

    def turn(self, number: int) -> TurnFacts:
        """A turn of the conversation."""
        return next(turn for turn in reversed(self.state.turns) if turn.number == number)

    def reset(self, **args: Any) -> None:
        """Begin anew, with another `system` prompt if one is given."""
        self.send("reset", **args)
        for _ in self._records(lambda: not self.state.turns):
            pass

    def interrupt(self) -> None:
        """End the answer that is being given; nothing when there is none, or nobody listens any more."""
        with suppress(UserError):
            self.client.send("interrupt")

    def probabilities(self, number: int, top: int = 5) -> None:
        """Have the probabilities of a turn's tokens in `state`."""
        self.send("probabilities", turn=number, top=top)
        turn = self.turn(number)
        asked = [spoken for spoken in turn.answers.values() if spoken.tokens]
        for _ in self._records(lambda: all(spoken.complete for spoken in asked)):
            pass

    def end(self) -> None:
        """End the job: its memory is free again."""
        with suppress(UserError):
            self.client.send("stop")

    def _records(self, until: Callable[[], bool]) -> Iterator[Record]:
        """The records as they come, each taken into the state, until the condition holds. UserError when the job ends before."""
        looked = time.monotonic()
        while not until():
            self._waiting.extend(self._tail.poll())
            if self._waiting:
                record = self._waiting.popleft()
                reduce(self.state, record)
                yield record
            elif time.monotonic() - looked > LIVENESS_S:
                looked = time.monotonic()
                manifest = read_manifest(self.run)
                self._waiting.extend(self._tail.poll())  # its last words may have come between the two looks
                if (state := manifest.living_state()) in ENDED and not self._waiting:
                    raise UserError(f"{self.run.name} has ended ({state}): {manifest.why or self.state.why or 'it said nothing'}")
            else:
                time.sleep(POLL_S)
