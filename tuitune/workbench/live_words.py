"""What a command will do to a run and when, in plain sentences: the confirmations and the command bar say them. Pure functions."""

from collections.abc import Mapping
from statistics import median
from typing import Any

from tuitune.workbench import figures
from tuitune.workbench.live_check import PAUSED
from tuitune.workbench.live_state import ACCUMULATION, BATCH, value_words
from tuitune.workbench.run_state import RunState

TITLES = {
    "save": "Save a checkpoint now?",
    "evaluate": "Evaluate now?",
    "sample": "Let the model answer now?",
    "pause": "Pause the run?",
    "resume": "Resume the run?",
    "stop": "Stop the run?",
    "reshape": "Change batch and accumulation?",
    "snapshot": "Write a snapshot of the GPU's memory?",
    "stacks": "Write the stacks of all threads?",
    "kill": "Kill this run?",
}
MODE_WORDS = {
    "trim": "gives cached GPU memory back; weights and optimizer stay",
    "keep": "keeps all memory; goes on at once",
    "suspend": "saves, ends the trainer and frees the GPU; resuming loads the model again",
}
UNITS = {"logging_steps": "logs", "save_steps": "saves a checkpoint", "eval_steps": "evaluates"}


def when(state: RunState, now: float) -> str:
    """When the trainer comes to a command: "at the end of step 413 (about 4 s from now)". `now` in unix seconds."""
    if state.state == "paused":
        return "at once (the run is paused)"
    if state.step is None or state.state in ("starting", "loading"):
        return "at the end of the first step, after loading"
    text = f"at the end of step {state.step + 1}"
    if state.state in ("evaluating", "saving"):
        return f"when it is done {state.state}"
    if not state.step_seconds:
        return text
    seconds = median(state.step_seconds)
    if state.boundary is not None and state.boundary <= now < state.boundary + seconds:
        seconds -= now - state.boundary
    return f"{text} ({_about(seconds)} from now)"


def title(op: str, args: Mapping[str, Any]) -> str:
    """The question before a command is sent."""
    return f"Set {args.get('key')} to {value_words(args.get('value'))}?" if op == "set" else TITLES.get(op, f"{op}?")


def sentences(op: str, args: Mapping[str, Any], state: RunState, now: float) -> list[str]:
    """What the command will do and when. `reshape` has its own sentences (batch_sentences), which need the batch in force."""
    moment = when(state, now)
    match op:
        case "set":
            return [_first(f"{moment}: {_set_words(args, state)}"), *_curve(args, state)]
        case "save":
            return [_first(f"{moment} it saves a checkpoint and goes on.{_last_save(state)}")]
        case "evaluate":
            taken = state.value("eval_runtime")
            last = f" The last one took {_seconds(taken)}." if taken else " That takes as long as an evaluation takes."
            return [_first(f"{moment} it evaluates and goes on.{last}")]
        case "sample":
            what = "your prompt" if args.get("prompt") else "the prompts of watch.prompts"
            return [_first(f"{moment} it answers {what} and goes on; the data and its random state stay as they are.")]
        case "pause":
            return [_first(f"{moment} it waits, taking commands."), *_mode_lines(args)]
        case "resume" if state.state == "suspended":
            saved = f" at step {state.checkpoint[0]}" if state.checkpoint and state.checkpoint[0] is not None else ""
            return [f"The hub takes a GPU again and starts the next attempt from the checkpoint{saved}: that takes one load of the model."]
        case "resume":
            return [f"Training goes on with step {(state.step or 0) + 1}, at once."]
        case "stop":
            kept = "without saving" if args.get("save") is False else "and saves a checkpoint and the result so far"
            return [_first(f"{moment} it ends {kept}.")]
        case "snapshot":
            return [_first(f"{moment} it writes what every allocation on the GPU is into the run's directory, and goes on.")]
        case "stacks":
            return ["At once the trainer writes where each of its threads is into its log (t). Training goes on."]
        case "kill":
            saved_step = state.checkpoint[0] if state.checkpoint else None
            lost = f"since the checkpoint of step {saved_step}" if saved_step is not None else "so far (there is no checkpoint)"
            return [f"Trainer and hub end at once. What was learnt {lost} is lost. (Shift+F5 saves and stops.)"]
    return [_first(f"{moment}.")]


def batch_sentences(args: Mapping[str, Any], state: RunState, now: float, batch: tuple[int, int] | None) -> list[str]:
    """What `reshape` does. `batch`: rows per device and accumulation in force, None when they are not known."""
    new, world = (int(args[BATCH]), int(args[ACCUMULATION])), state.world
    lines = [_first(f"{when(state, now)} it saves, and goes on with the next row of the data in the new shape.")]
    if batch is None:
        return [*lines, f"Effective batch: {_product(new, world)}; what it is now is not known."]
    before, after = batch[0] * batch[1] * world, new[0] * new[1] * world
    if before == after:
        return [*lines, f"Effective batch: {_product(batch, world)} → {_product(new, world)}: the same updates."]
    more = "more" if after > before else "fewer"
    return [
        *lines,
        f"Effective batch: {_product(batch, world)} → {_product(new, world)}.",
        f"! It changes: each update averages over {more} rows, and max_steps then means {'more' if after > before else 'less'} data. "
        f"The learning rate was chosen for {before}.",
    ]


def _product(batch: tuple[int, int], world: int) -> str:
    devices = f" × {world} devices" if world > 1 else ""
    return f"{batch[0]} × {batch[1]}{devices} = {batch[0] * batch[1] * world}"


def _set_words(args: Mapping[str, Any], state: RunState) -> str:
    key, value = str(args["key"]), args["value"]
    before = state.setting(key)
    if key in UNITS:
        return f"it {UNITS[key]} every {value} steps" + ("." if before is None else f", now every {value_words(before)}.")
    if key == "max_steps":
        seconds = median(state.step_seconds) * max(0, value - (state.step or 0)) if state.step_seconds else None
        ends = f"the run ends after step {value}" + (f", {_about(seconds)} later" if seconds is not None else "")
        return ends + ("." if before is None else f"; planned were {value_words(before)}.")
    return f"{key} {value_words(before)} → {value_words(value)}."


def _curve(args: Mapping[str, Any], state: RunState) -> list[str]:
    """What the learning rate does from then on."""
    key, value = args.get("key"), args.get("value")
    last = state.max_steps or "the last"
    if key == "lr_scheduler":
        rate = value_words(state.setting("learning_rate"))
        return [f"From {rate} on it stays there." if value == "constant" else f"From {rate} on it falls ({value}) to 0 at step {last}."]
    if key != "learning_rate":
        return []
    kind = args.get("kind", "scale")
    if kind == "hold":
        return [f"It stays there to the end (step {last})."]
    if kind in ("linear", "cosine"):
        until = f"within {args['steps']} steps" if "steps" in args else f"at step {last}"
        return [f"Then it goes ({kind}) to {value_words(args.get('end', 0))} {until}."]
    before = state.setting("learning_rate")
    factor = f" by {value / before:.3g}" if isinstance(before, int | float) and before > 0 and isinstance(value, int | float) else ""
    return [f"The planned curve goes on, scaled{factor} so that it passes through this value now."]


def _mode_lines(args: Mapping[str, Any]) -> list[str]:
    modes = [args["mode"]] if "mode" in args else list(MODE_WORDS)
    return [f"{mode}: {MODE_WORDS[mode]}" for mode in modes if mode in MODE_WORDS]


def _last_save(state: RunState) -> str:
    if state.checkpoint is None or state.checkpoint[2] is None:
        return ""
    _, count, seconds = state.checkpoint
    return f" The last one took {_seconds(seconds)}{f' ({figures.size(count)})' if count is not None else ''}."


def paused_words(state: RunState) -> str:
    """What a paused or suspended run waits for; "" for any other."""
    if state.state not in PAUSED:
        return ""
    at = f" after step {state.step}" if state.step is not None else ""
    if state.state == "suspended":
        return f"○ Suspended{at}: {state.why or 'the GPU is free, it goes on from its checkpoint'} (F5 does it)."
    words = _first(state.why) if state.why.startswith("paused") else f"Paused ({state.why})" if state.why else "Paused"
    return f"‖ {words}{at}. F5 goes on; settings can be changed, saved, evaluated and sampled meanwhile."


def _seconds(seconds: float | None) -> str:
    return figures.UNKNOWN if seconds is None else f"{seconds:.1f} s" if seconds < 60 else figures.duration(seconds)


def _about(seconds: float) -> str:
    return "less than a second" if seconds < 1 else f"about {seconds:.0f} s" if seconds < 90 else f"about {figures.duration(seconds)}"


def _first(text: str) -> str:
    return text[:1].upper() + text[1:]
