"""The records of live tuning, taken into a RunState: commands and their answers, samples, alarms, seams, memory that ran out.

Called by run_reduce.py; nothing raises whatever a record holds. Nothing of Textual, no files, no threads.
"""

from collections.abc import Mapping
from typing import Any

from tuitune.workbench import figures
from tuitune.workbench.gpu_reading import word
from tuitune.workbench.live_state import Alarm, CommandState, Sample, Seam
from tuitune.workbench.record_fields import finite, sentence, source, whole
from tuitune.workbench.run_state import MAX_EVENTS, Event, RunState

MAX_TEXT = 8192  # characters of a sample that are kept
MAX_PROMPTS = 64


def take_command(state: RunState, record: Mapping[str, Any], time: float) -> None:
    """`command`: somebody asks for something."""
    command = _find_command(state, record, time)
    if command is None:
        return
    command.op, command.by = word(record.get("op")) or command.op, word(record.get("by"))
    args = record.get("args")
    command.args = {str(key): value for key, value in args.items()} if isinstance(args, Mapping) else {}
    command.time = time
    state.commands_seen += 1
    by = f" by {command.by}" if command.by else ""
    state.note(Event(time, "command", f"{command.words} asked for{by}"))


def take_applied(state: RunState, record: Mapping[str, Any], time: float) -> None:
    """`applied`: the trainer or the hub has answered a command."""
    command = _find_command(state, record, time)
    if command is None:
        return
    command.op = word(record.get("op")) or command.op
    command.step, command.answered = whole(record.get("step")), time
    command.error = sentence(record.get("error"))
    command.note = word(record.get("path"), limit=4096).rpartition("/")[2]
    alarm = state.alarm
    proposed = alarm.place if alarm and alarm.op == command.op and alarm.time <= command.time else ""
    command.by, command.why = command.by or word(record.get("by")), sentence(record.get("why")) or proposed
    command.old, command.new = record.get("old"), record.get("new")
    command.state = "failed" if record.get("ok") is False or command.error else "applied"
    state.commands_seen += 1
    key = word(record.get("key") or command.args.get("key"))
    if command.state == "applied" and command.op == "set" and command.new is not None:
        state.settings[key] = command.new
        if command.step is not None:
            state.set_at[key] = command.step
        if key == "max_steps" and (last := whole(command.new)):
            state.max_steps = last
    if command.state == "applied" and command.op == "reshape" and isinstance(command.new, Mapping):
        state.settings.update({word(key): value for key, value in list(command.new.items())[:8]})
    state.note(Event(time, "refused" if command.state == "failed" else "applied", "", command.step, command))


def take_sample(state: RunState, record: Mapping[str, Any], time: float) -> None:
    """`sample`: an answer of the model in training, with the base model's once."""
    text = record.get("text")
    if not isinstance(text, str):
        return
    prompt = word(record.get("prompt"), limit=MAX_TEXT)
    prompt_id = word(str(record.get("prompt_id")), limit=200) if record.get("prompt_id") is not None else prompt
    base = record.get("base")
    if isinstance(base, str) and (prompt_id in state.bases or len(state.bases) < MAX_PROMPTS):
        state.bases[prompt_id] = base[:MAX_TEXT]
    stopped = record.get("stopped")
    state.samples.append(
        Sample(
            time,
            whole(record.get("step")),
            prompt_id,
            prompt,
            text[:MAX_TEXT],
            tokens=whole(record.get("tokens")),
            stopped=stopped if isinstance(stopped, bool) else None,
            repetition=finite(record.get("repetition")),
            speed=finite(record.get("tok_s")),
        )
    )
    state.samples_seen += 1


def take_alarm(state: RunState, record: Mapping[str, Any], time: float) -> None:
    """`alarm`: watching found that the run goes wrong."""
    if source(record) not in ("", f"trainer-{state.attempt}", "hub"):
        return  # of an older attempt, read late
    propose = record.get("propose")
    op = word(propose.get("op"), limit=40) if isinstance(propose, Mapping) else ""
    args = propose.get("args") if isinstance(propose, Mapping) else None
    text = sentence(record.get("text"))
    kind = word(record.get("kind"), limit=40) or "alarm"
    alarm = Alarm(time, kind, whole(record.get("step")), text or kind, state.attempt, op, dict(args) if isinstance(args, Mapping) else {})
    state.alarms.append(alarm)
    state.note(Event(time, "alarm", f"{kind}: {alarm.text}", alarm.step))


def take_seam(state: RunState, record: Mapping[str, Any], time: float) -> None:
    """`seam`: a later attempt says where it takes over and what had changed meanwhile."""
    attempt = whole(record.get("attempt")) or state.attempt
    changed = record.get("changed")
    sentences = [text for item in changed[:20] if (text := sentence(item))] if isinstance(changed, list) else []
    checkpoint = word(record.get("checkpoint"), limit=4096).rpartition("/")[2]
    seam = Seam(attempt, whole(record.get("step")), checkpoint, tuple(sentences))
    if len(state.seams) < MAX_EVENTS:
        state.seams[attempt] = seam
    for name in [name for name, at in state.set_at.items() if at > (seam.step or 0)]:  # the checkpoint is older than that change
        state.set_at.pop(name)
        state.settings.pop(name, None)
    state.note(Event(time, "seam", "; ".join([seam.words, *sentences]), seam.step))


def take_out_of_memory(state: RunState, record: Mapping[str, Any], time: float) -> None:
    """`oom`: the GPU's memory ran out, and what the trainer did about it."""
    phase, retry, why = word(record.get("phase"), limit=40), word(record.get("retry"), limit=80), sentence(record.get("why"))
    peak, micro = finite(record.get("peak")), whole(record.get("micro"))
    parts = [f"{'memory' if 'peak' in record and peak is None else 'GPU memory'} ran out{f' ({phase})' if phase else ''}"]
    parts += [f"at {figures.size(peak)}"] if peak else []
    parts += [f"micro-batch {micro} of its update"] if micro else []
    parts += [f"done again: {retry}"] if retry else [f"not done again: {why}"] if why else []
    state.note(Event(time, "oom", ", ".join(parts), whole(record.get("step"))))


def _find_command(state: RunState, record: Mapping[str, Any], time: float) -> CommandState | None:
    name = record.get("id")
    if not isinstance(name, str) or not name:
        return None
    if name not in state.commands and len(state.commands) >= MAX_EVENTS:
        state.commands.pop(next(iter(state.commands)))
    return state.commands.setdefault(name, CommandState(name, time=time))
