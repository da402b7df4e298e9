"""A chat as its journal tells it: the sides, the turns and what each side has answered so far. Pure data for the terminal and the view.

Records may be half filled, of a newer version or garbage: what is understood is taken, and nothing raises. Texts are the model's own and
the user's: whoever shows them passes them through `printable`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuitune.bus.envelope import as_number


@dataclass(frozen=True)
class SideFacts:
    """One side: `weights` is its type ("bfloat16", "4-bit"), `template` whether the model has one of its own."""

    key: str
    words: str
    weights: str = ""
    device: str = ""
    template: bool = True


@dataclass(frozen=True)
class TokenFacts:
    """A token of an answer with its probability, 0 to 1, and the likeliest ones in its place."""

    text: str
    p: float
    top: tuple[tuple[str, float], ...]


@dataclass
class Spoken:
    """An answer. `ended`: "" while it grows, else stop token, length, interrupted or memory; `error` says what went wrong."""

    text: str = ""
    ended: str = ""
    tokens: int | None = None
    prompt_tokens: int | None = None
    speed: float | None = None
    error: str = ""
    probabilities: list[TokenFacts] = field(default_factory=list)
    complete: bool = False  # all of the probabilities are here


@dataclass
class TurnFacts:
    """A question and its answers by side; `sides`: who was asked."""

    number: int
    text: str
    seed: int | None = None
    params: dict[str, Any] = field(default_factory=dict)
    sides: tuple[str, ...] = ()
    answers: dict[str, Spoken] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether every side that was asked has ended."""
        return all(key in self.answers and self.answers[key].ended for key in self.sides)


@dataclass
class ChatState:
    """`ready`: the models are loaded. `state`, `why`: of the job. `interrupted`: the turn was cut off, so later sides stay silent."""

    state: str = "starting"
    why: str = ""
    ready: bool = False
    sides: list[SideFacts] = field(default_factory=list)
    system: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    turns: list[TurnFacts] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def busy(self) -> bool:
        """Whether an answer is still to come."""
        return self.ready and self.state == "running" and bool(self.turns) and not self.turns[-1].over

    def messages(self, side: str) -> list[dict[str, str]]:
        """The conversation as this side had it, for a training row, up to the first answer that it did not end itself: what is cut off
        teaches to stop there. [] when there is none."""
        rows: list[dict[str, str]] = []
        for turn in self.turns:
            if (spoken := turn.answers.get(side)) is not None and spoken.text:
                if spoken.ended != "stop token":
                    break
                rows += [{"role": "user", "content": turn.text}, {"role": "assistant", "content": spoken.text}]
        return [{"role": "system", "content": self.system}, *rows] if rows and self.system else rows


def reduce(state: ChatState, record: Mapping[str, Any]) -> None:
    """Take one record of the job's journal."""
    match record.get("ev"):
        case "state":
            state.state, state.why = str(record.get("s")), str(record.get("why") or "")
        case "warning":
            state.warnings.append(str(record.get("text")))
        case "chat":
            state.sides = [_side(one) for one in _list(record.get("sides")) if isinstance(one, dict)]
            state.system, state.params, state.ready = str(record.get("system") or ""), _dict(record.get("params")), True
            state.turns.clear()
        case "reset":
            state.turns.clear()
            state.system = str(record.get("system") or "")
        case "turn":
            _turn(state, record)
        case "say" if (spoken := _spoken(state, record)) is not None:
            spoken.text += str(record.get("text") or "")
        case "said" if (spoken := _spoken(state, record)) is not None:
            _said(state, spoken, record)
        case "probabilities" if (spoken := _spoken(state, record)) is not None:
            if record.get("start") == 0:
                spoken.probabilities = []
            spoken.probabilities += [_token(one) for one in _list(record.get("tokens")) if isinstance(one, dict)]
            spoken.complete = bool(record.get("last"))


def _turn(state: ChatState, record: Mapping[str, Any]) -> None:
    number, params = _whole(record.get("turn")) or 0, _dict(record.get("params"))
    state.system = str(record.get("system") or "")
    seed = _whole(params.get("seed"))
    state.params = {**params, "seed": state.params.get("seed")}
    if record.get("again") and state.turns and state.turns[-1].number == number:
        state.turns.pop()
    sides = tuple(str(key) for key in _list(record.get("sides")))
    state.turns.append(TurnFacts(number, str(record.get("text") or ""), seed, params, sides))


def _said(state: ChatState, spoken: Spoken, record: Mapping[str, Any]) -> None:
    spoken.ended = str(record.get("ended") or "?")
    spoken.tokens, spoken.prompt_tokens = _whole(record.get("tokens")), _whole(record.get("prompt_tokens"))
    spoken.speed, spoken.error = as_number(record.get("tokens_per_second")), str(record.get("error") or "")
    turn = state.turns[-1]
    if spoken.ended == "interrupted":  # the sides after it are not asked any more
        turn.sides = tuple(key for key in turn.sides if key in turn.answers)


def _spoken(state: ChatState, record: Mapping[str, Any]) -> Spoken | None:
    """The answer that a record is about, of a turn that is still in the conversation."""
    number = record.get("turn")
    turn = next((one for one in reversed(state.turns) if one.number == number), None)
    return None if turn is None else turn.answers.setdefault(str(record.get("side")), Spoken())


def _side(one: dict[str, Any]) -> SideFacts:
    words = {name: str(one.get(name) or "") for name in ("words", "weights", "device")}
    return SideFacts(str(one.get("side")), template=bool(one.get("template", True)), **words)


def _token(one: dict[str, Any]) -> TokenFacts:
    top = [pair for pair in _list(one.get("top")) if isinstance(pair, list) and len(pair) == 2]
    return TokenFacts(str(one.get("text")), as_number(one.get("p")) or 0.0, tuple((str(text), as_number(p) or 0.0) for text, p in top))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
