"""`reduce(state, record)`: takes one journal record into a RunState.

Records may come from several files in any order, may be of a newer version, half filled or garbage: what is understood is taken, and
nothing raises. Nothing of Textual, no files, no threads.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from tuitune.bus.envelope import as_number
from tuitune.text import printable
from tuitune.workbench.gpu_reading import read_host, read_sample, word
from tuitune.workbench.proof_reading import read_proof
from tuitune.workbench.run_state import MAX_EVENTS, CommandState, Crash, Event, GpuHistory, RunState, TorchMemory
from tuitune.workbench.series import Series

MAX_SERIES = 400  # metrics by name; a trainer that invents names without end must not fill the memory
_ENVELOPE = frozenset({"v", "n", "t", "ev", "src", "step", "max_steps", "attempt", "mem", "rank", "metrics", "proto", "ok", "pid"})
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")


def reduce(state: RunState, record: Mapping[str, Any]) -> None:
    """Take one record into `state`. Unknown kinds are counted; wrong types are passed over; never raises."""
    if not isinstance(record, Mapping):
        return
    time = _finite(record.get("t"))
    if time is None:
        time = state.last_time or 0.0
    else:
        state.origin = time if state.origin is None else state.origin
        state.first_time = time if state.first_time is None else min(state.first_time, time)
        state.last_time = time if state.last_time is None else max(state.last_time, time)
    state.records += 1
    _follow_attempt(state, record, time)
    kind = record.get("ev")
    take = _TAKERS.get(kind) if isinstance(kind, str) else None
    if take is None:
        state.unknown += 1
    else:
        take(state, record, time)


def lost(state: RunState, why: str) -> None:
    """The run's processes are gone without a word: what the reader found out, not a record."""
    if not state.over:
        state.state, state.why = "lost", why


def found(state: RunState) -> None:
    """The run's processes are alive after all (resumed, or the directory was being copied)."""
    if state.state == "lost":
        state.state, state.why = "running", ""


def _hello(state: RunState, record: Mapping[str, Any], time: float) -> None:
    source = "hub" if _source(record) == "hub" else "trainer"
    state.hello[source] = dict(record)


def _state(state: RunState, record: Mapping[str, Any], time: float) -> None:
    name = word(record.get("s"), limit=20)
    if not name:
        return
    _progress(state, record)
    why = _sentence(record.get("why"))
    if time >= state.state_time:
        if name != state.state or why:
            _note(state, Event(time, "state", f"{name}: {why}" if why else name, _whole(record.get("step"))))
        state.state, state.why, state.state_time = name, why, time


def _metrics(state: RunState, record: Mapping[str, Any], time: float) -> None:
    step = _whole(record.get("step"))
    if step is None or not _current(state, record, step):
        return
    previous = state.seconds_at_step
    now = time - (state.origin or 0.0)
    seconds = _finite(record.get("step_ms"))
    if seconds is not None:
        seconds /= 1000
    elif previous.xs and step > previous.xs[-1]:
        seconds = (now - previous.ys[-1]) / (step - previous.xs[-1])
    if seconds is not None and seconds > 0:
        state.step_seconds.append(seconds)
    previous.add(step, now)
    _progress(state, record)
    _numbers(state, record, step)
    _torch_memory(state, record.get("mem"), now)


def _eval(state: RunState, record: Mapping[str, Any], time: float) -> None:
    step = _whole(record.get("step"))
    if step is None or not _current(state, record, step):
        return
    nested = record.get("metrics")
    _numbers(state, nested if isinstance(nested, Mapping) else record, step)
    loss = state.value("eval_loss")
    _note(state, Event(time, "eval", "evaluated" if loss is None else f"evaluated: eval_loss {loss:.4g}", step))


def _gpu(state: RunState, record: Mapping[str, Any], time: float) -> None:
    sample = read_sample(record)
    state.gpu_now = sample
    now = time - (state.origin or 0.0)
    for reading in sample.devices:
        history = state.gpus.get(reading.key)
        if history is None:
            if len(state.gpus) >= 64:
                continue
            history = state.gpus[reading.key] = GpuHistory(reading)
        history.now = reading
        for series, value in (
            (history.used, reading.used),
            (history.process, reading.process),
            (history.util, reading.util),
            (history.power, reading.power),
            (history.temperature, reading.temperature),
        ):
            if value is not None and math.isfinite(value):
                series.add(now, value)


def _host(state: RunState, record: Mapping[str, Any], time: float) -> None:
    state.host_now = read_host(record)
    now = time - (state.origin or 0.0)
    for series, value in ((state.ram, state.host_now.ram_used), (state.tree_rss, state.host_now.tree_rss)):
        if value is not None and math.isfinite(value):
            series.add(now, value)


def _log(state: RunState, record: Mapping[str, Any], time: float) -> None:
    text = record.get("text")
    if isinstance(text, str):
        lines = clean_log(text)
        state.log.extend(lines)
        state.log_seen += len(lines)


def _checkpoint(state: RunState, record: Mapping[str, Any], time: float) -> None:
    step = _whole(record.get("step"))
    seconds, count = _finite(record.get("seconds")), _finite(record.get("bytes"))
    parts = [f"checkpoint {word(record.get('path')).rpartition('/')[2] or step}"]
    parts += [f"{count / (1 << 20):.0f} MiB"] if count is not None else []
    parts += [f"{seconds:.1f} s"] if seconds is not None else []
    parts += [f"not written: {_sentence(record.get('error')) or 'no reason given'}"] if record.get("complete") is False else []
    _note(state, Event(time, "checkpoint", ", ".join(parts), step))


def _heartbeat(state: RunState, record: Mapping[str, Any], time: float) -> None:
    _progress(state, record)


def _command(state: RunState, record: Mapping[str, Any], time: float) -> None:
    command = _find_command(state, record, time)
    if command is not None:
        command.op, command.by = word(record.get("op")) or command.op, word(record.get("by"))
        args = record.get("args")
        command.args = dict(args) if isinstance(args, Mapping) else {}
        command.time = time
        _note(state, Event(time, "command", f"{command.op} asked for" + (f" by {command.by}" if command.by else "")))


def _applied(state: RunState, record: Mapping[str, Any], time: float) -> None:
    command = _find_command(state, record, time)
    if command is None:
        return
    command.op = word(record.get("op")) or command.op
    command.step = _whole(record.get("step"))
    command.error = _sentence(record.get("error"))
    command.state = "failed" if record.get("ok") is False or command.error else "applied"
    if command.state == "failed":
        _note(state, Event(time, "refused", f"{command.op} failed: {command.error or 'no reason given'}", command.step))
    else:
        _note(state, Event(time, "applied", f"{command.op} applied", command.step))


def _sample(state: RunState, record: Mapping[str, Any], time: float) -> None:
    state.samples.append({"t": time, "step": _whole(record.get("step")), "text": word(record.get("text"), limit=8192), **_words(record)})


def _warning(state: RunState, record: Mapping[str, Any], time: float) -> None:
    text = _sentence(record.get("text"))
    if text:
        _note(state, Event(time, "warning", text))


def _data(state: RunState, record: Mapping[str, Any], time: float) -> None:
    figures = [f"{count:,} {name.replace('_', ' ')}" for name in ("rows", "sequences", "tokens") if (count := _whole(record.get(name)))]
    dropped = _whole(record.get("dropped"))
    more = ([f"{dropped:,} dropped"] if dropped else []) + (["as inspected"] if record.get("inspected") == "same" else [])
    _note(state, Event(time, "data", "data: " + ", ".join([*figures, *more])))


def _proof(state: RunState, record: Mapping[str, Any], time: float) -> None:
    if _source(record) not in ("", f"trainer-{state.attempt}"):
        return  # an older attempt, read late
    state.proof = read_proof(record)
    _note(state, Event(time, "proof", state.proof.sentence))


def _out_of_memory(state: RunState, record: Mapping[str, Any], time: float) -> None:
    phase = word(record.get("phase"), limit=40)
    _note(state, Event(time, "oom", f"GPU memory ran out{f' ({phase})' if phase else ''}", _whole(record.get("step"))))


def _crash(state: RunState, record: Mapping[str, Any], time: float) -> None:
    tail = next((record[key] for key in ("tail", "log_tail", "log") if key in record), ())
    lines = tail if isinstance(tail, list) else clean_log(tail) if isinstance(tail, str) else []
    state.crash = Crash(
        kind=word(record.get("class")) or "crash",
        hint=_sentence(record.get("hint")),
        returncode=_whole(record.get("rc")),
        signal=word(record.get("signal")) or str(_whole(record.get("signal")) or ""),
        last_step=_whole(record.get("last_step")),
        traceback=printable(record["traceback"], newlines=True, limit=20_000) if isinstance(record.get("traceback"), str) else "",
        tail=tuple(printable(line, limit=500) for line in lines[-50:] if isinstance(line, str)),
    )
    _note(state, Event(time, "crash", state.crash.hint or f"the trainer died ({state.crash.kind})", state.crash.last_step))
    if time >= state.state_time:
        state.state, state.why, state.state_time = "failed", state.crash.hint, time


def _end(state: RunState, record: Mapping[str, Any], time: float) -> None:
    _progress(state, record)
    reason = word(record.get("reason"), limit=300)
    final = next((name for name in ("failed", "stopped", "done") if reason.startswith(name)), "")
    text = f"ended: {reason}" if reason else "ended"
    if not (state.events and state.events[-1].text == text):  # trainer and hub both say it
        _note(state, Event(time, "end", text, _whole(record.get("step"))))
    if final and time >= state.state_time:
        state.state, state.state_time = final, time


_TAKERS: dict[str, Callable[[RunState, Mapping[str, Any], float], None]] = {
    "hello": _hello,
    "state": _state,
    "metrics": _metrics,
    "eval": _eval,
    "gpu": _gpu,
    "host": _host,
    "log": _log,
    "checkpoint": _checkpoint,
    "hb": _heartbeat,
    "command": _command,
    "applied": _applied,
    "sample": _sample,
    "warning": _warning,
    "data": _data,
    "proof": _proof,
    "oom": _out_of_memory,
    "crash": _crash,
    "end": _end,
}


def clean_log(text: str) -> list[str]:
    """The lines of a log text: colours dropped, of a progress bar only what it shows last, everything else made printable."""
    lines = _ESCAPES.sub("", text).splitlines() if "\r" not in text else _ESCAPES.sub("", text).replace("\r\n", "\n").split("\n")
    return [printable(line.rstrip("\r").rpartition("\r")[2].replace("\t", "    "), limit=2000) for line in lines]


def _follow_attempt(state: RunState, record: Mapping[str, Any], time: float) -> None:
    """A newer attempt trains from an earlier checkpoint: what the older one did beyond it does not count any more."""
    name, _, digits = _source(record).partition("-")
    attempt = int(digits) if name == "trainer" and digits.isdecimal() and len(digits) < 9 else 0
    if attempt <= state.attempt:
        return
    if state.attempt:
        _note(state, Event(time, "attempt", f"attempt {attempt}", state.step))
        state.crash, state.not_finite, state.proof = None, None, None
        state.step_seconds.clear()
    state.attempt, state.attempt_from, state.step = attempt, math.inf, None  # until its first step is known


def _current(state: RunState, record: Mapping[str, Any], step: int) -> bool:
    """Whether a step's figures still count; at the first step of a new attempt the older attempt's later points are dropped."""
    if _source(record) != f"trainer-{state.attempt}":
        return state.attempt == 0 or step <= state.attempt_from
    if state.attempt_from == math.inf:
        state.attempt_from = step - 1
        for series in (*state.metrics.values(), state.seconds_at_step):
            series.drop_after(step - 1)
    return True


def _progress(state: RunState, record: Mapping[str, Any]) -> None:
    if _source(record) not in ("", "hub", f"trainer-{state.attempt}"):
        return  # an older attempt, read late
    step, last = _whole(record.get("step")), _whole(record.get("max_steps"))
    if step is not None and (state.step is None or step > state.step):
        state.step = step
    if last is not None and last > 0:
        state.max_steps = last
    epoch = _finite(record.get("epoch"))
    state.epoch = epoch if epoch is not None else state.epoch


def _numbers(state: RunState, values: Mapping[str, Any], step: int) -> None:
    for key, raw in values.items():
        if key in _ENVELOPE or not isinstance(key, str) or isinstance(raw, bool):
            continue
        value = as_number(raw)
        if value is None:
            continue
        name = printable(key, limit=60)
        series = state.metrics.get(name)
        if series is None:
            if len(state.metrics) >= MAX_SERIES:
                continue
            series = state.metrics[name] = Series()
        series.add(step, value)
        if not math.isfinite(value) and name in ("loss", "grad_norm", "eval_loss") and state.not_finite is None:
            state.not_finite = (name, step)
            _note(state, Event(state.last_time or 0.0, "number", f"{name} is {value}: the run diverges", step))


def _torch_memory(state: RunState, memory: Any, now: float) -> None:
    """`mem` of a metrics record: one mapping of numbers, one mapping of lists, or a list of mappings, one per device."""
    for index, figures in enumerate(_per_device(memory)[:64]):
        while len(state.torch) <= index:
            state.torch.append(TorchMemory())
        device = state.torch[index]
        for series, key in (
            (device.allocated, "alloc"),
            (device.reserved, "reserved"),
            (device.peak_allocated, "peak_alloc"),
            (device.peak_reserved, "peak_reserved"),
        ):
            value = _finite(figures.get(key))
            if value is not None:
                series.add(now, value)


def _per_device(memory: Any) -> list[Mapping[str, Any]]:
    if isinstance(memory, list):
        return [entry if isinstance(entry, Mapping) else {} for entry in memory]
    if not isinstance(memory, Mapping):
        return []
    lists = {key: value for key, value in memory.items() if isinstance(value, list)}
    if not lists:
        return [memory]
    return [{key: value[index] for key, value in lists.items() if index < len(value)} for index in range(max(map(len, lists.values())))]


def _find_command(state: RunState, record: Mapping[str, Any], time: float) -> CommandState | None:
    name = record.get("id")
    if not isinstance(name, str) or not name:
        return None
    if name not in state.commands and len(state.commands) >= MAX_EVENTS:
        state.commands.pop(next(iter(state.commands)))
    return state.commands.setdefault(name, CommandState(name, time=time))


def _note(state: RunState, event: Event) -> None:
    state.events.append(event)
    state.events_seen += 1


def _words(record: Mapping[str, Any]) -> dict[str, str]:
    return {key: word(record.get(key), limit=200) for key in ("prompt_id", "prompt", "file") if isinstance(record.get(key), str)}


def _sentence(value: Any) -> str:
    return word(value, limit=500)


def _source(record: Mapping[str, Any]) -> str:
    source = record.get("src")
    return source if isinstance(source, str) else ""


def _finite(value: Any) -> float | None:
    found = None if isinstance(value, bool) else as_number(value)
    return found if found is not None and math.isfinite(found) else None


def _whole(value: Any) -> int | None:
    found = _finite(value)
    return int(found) if found is not None and abs(found) < 2**53 else None
