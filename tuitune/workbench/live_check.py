"""Whether a command can be sent to a run, and if not the sentence that says why: checked before anything is sent. Pure functions."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from tuitune.workbench.live_caps import Setting
from tuitune.workbench.live_state import ACCUMULATION, BATCH, value_words
from tuitune.workbench.run_state import RunState

KINDS = ("scale", "hold", "linear", "cosine")  # what the learning rate does after a change
MODES = ("trim", "keep", "suspend")
# what each op takes beside nothing; for `set` see _set_refusal
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "set": ("key", "value", "kind", "steps", "end"),
    "pause": ("mode",),
    "sample": ("prompt", "max_new_tokens"),
    "stop": ("save",),
    "reshape": (BATCH, ACCUMULATION),
}
PAUSED = ("paused", "suspended")


def refusal(op: str, state: RunState) -> str:
    """Why this run does not take `op` now; "" when it does."""
    if state.over:
        return f"The run is {state.state}; there is no trainer to ask."
    offers = state.offers
    if op not in offers and "trainer" not in state.hello:
        return "The trainer has not said yet what it takes: it is still loading."
    if op not in offers:
        return f"This trainer does not take '{op}' (it takes: {', '.join(sorted(offers))})."
    if op == "pause" and state.state in PAUSED:
        return f"The run is {state.state} already."
    if op == "resume" and state.state not in PAUSED:
        return f"The run is not paused, it is {state.state}."
    if state.state == "suspended" and op not in ("resume", "stop", "kill"):
        return "The run is suspended: it has no trainer until it is resumed."
    return ""


def check(op: str, args: Mapping[str, Any], state: RunState) -> str:
    """Why this command is not sent: the run does not take it, or an argument is wrong. "" when it can be sent."""
    if refused := refusal(op, state):
        return refused
    known = ARGUMENTS.get(op, ())
    unknown = next((name for name in args if name not in known), None)
    if unknown is not None:
        return f"{op} takes {', '.join(known) or 'no arguments'}, not {unknown}."
    match op:
        case "set":
            return _set_refusal(args, state)
        case "pause":
            modes = state.offers[op].modes or MODES
            mode = args.get("mode", modes[0])
            return "" if mode in modes else f"pause has the modes {_either(modes)}, not {value_words(mode)}."
        case "reshape":
            return next((text for name in known if (text := _whole(name, args.get(name, ""), 1))), "")
        case "sample":
            tokens = _whole("max_new_tokens", args["max_new_tokens"], 1) if "max_new_tokens" in args else ""
            return tokens or ("" if isinstance(args.get("prompt", ""), str) else "prompt is a text.")
        case "stop":
            return "" if isinstance(args.get("save", True), bool) else "save is true or false."
    return ""


def _set_refusal(args: Mapping[str, Any], state: RunState) -> str:
    settings = state.offers["set"].settings
    key = args.get("key")
    if key is None or "value" not in args:
        return f"set NAME=VALUE: the names are {', '.join(settings)}."
    setting = settings.get(str(key))
    if setting is None:
        return f"This trainer cannot set {value_words(key)} while it trains (it can set: {', '.join(settings)})."
    if wrong := value_refusal(setting, args["value"]):
        return wrong
    if setting.name == "max_steps" and args["value"] <= (state.step or 0):
        return f"max_steps: the run is at step {state.step}, so the last step is {(state.step or 0) + 1} or later."
    if setting.name != "learning_rate":
        extra = next((name for name in ("kind", "steps", "end") if name in args), None)
        return f"{extra} goes with learning_rate only." if extra else ""
    return _curve_refusal(args, state)


def value_refusal(setting: Setting, value: Any) -> str:
    """Why a value is none for this setting, in a sentence with its name; "" when it is one."""
    shown = value_words(value)
    if setting.type == "choice":
        return "" if value in setting.choices else f"{setting.name} is {_either(setting.choices)}, not {shown}."
    if setting.type == "int" and (isinstance(value, bool) or not isinstance(value, int)):
        return f"{setting.name} is a whole number, not {shown}."
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return f"{setting.name} is a number, not {shown}."
    if setting.low is not None and value < setting.low:
        return f"{setting.name} is at least {setting.low:g}, not {shown}."
    if setting.high is not None and value > setting.high:
        return f"{setting.name} is at most {setting.high:g}, not {shown}."
    return ""


def _curve_refusal(args: Mapping[str, Any], state: RunState) -> str:
    kind = args.get("kind", KINDS[0])
    if kind not in KINDS:
        return f"kind is {_either(KINDS)}, not {value_words(kind)}."
    given = next((name for name in ("steps", "end") if name in args), None)
    if given and kind not in ("linear", "cosine"):
        return f"{given} goes with kind=linear or kind=cosine: {kind} has none."
    if "steps" in args and (wrong := _whole("steps", args["steps"], 1)):
        return wrong
    end = args.get("end", 0)
    if isinstance(end, bool) or not isinstance(end, int | float) or not isfinite(end) or end < 0:
        return f"end is a learning rate, 0 or more, not {value_words(end)}."
    if kind == "scale" and state.setting("learning_rate") == 0 and args["value"] > 0:
        return "The present rate is 0, which no factor lifts: use kind=hold, linear or cosine."
    return ""


def _whole(name: str, value: Any, least: int) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        return f"{name} is a whole number{f', not {value_words(value)}' if value != '' else ': say which'}."
    return "" if value >= least else f"{name} is at least {least}, not {value}."


def _either(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else "".join(words)
