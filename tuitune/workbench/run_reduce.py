"""`reduce(state, record)`: takes one journal record into a RunState.

Records may come from several files in any order, may be of a newer version, half filled or garbage: what is understood is taken, and
nothing raises. Nothing of Textual, no files, no threads.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from tuitune.bus.envelope import as_number
from tuitune.runs.curves import ENVELOPE, MAX_METRICS
from tuitune.text import printable
from tuitune.workbench import figures
from tuitune.workbench.gpu_reading import word
from tuitune.workbench.gpu_reduce import take_gpus, take_host, take_torch_memory
from tuitune.workbench.live_reduce import take_alarm, take_applied, take_command, take_out_of_memory, take_sample, take_seam
from tuitune.workbench.live_state import ACCUMULATION, BATCH, Seam
from tuitune.workbench.proof_reading import read_proof
from tuitune.workbench.record_fields import finite, sentence, source, whole
from tuitune.workbench.run_state import Crash, Event, RunState
from tuitune.workbench.series import Series

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")


def reduce(state: RunState, record: Mapping[str, Any]) -> None:
    """Take one record into `state`. Unknown kinds are counted; wrong types are passed over; never raises."""
    if not isinstance(record, Mapping):
        return
    time = finite(record.get("t"))
    if time is None:
        time = state.last_time or 0.0
    else:
        state.origin = time if state.origin is None else state.origin
        state.first_time = time if state.first_time is None else min(state.first_time, time)
        state.last_time = time if state.last_time is None else max(state.last_time, time)
    state.records += 1
    state.tally.take(record)
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
    writer = source(record)
    if writer == "hub":
        state.hello["hub"] = dict(record)
    elif writer in ("", f"trainer-{state.attempt}"):
        state.hello["trainer"] = dict(record)
        for name in (BATCH, ACCUMULATION):  # its ledger tells them; what else was set by hand, a later attempt keeps
            state.settings.pop(name, None)


def _state(state: RunState, record: Mapping[str, Any], time: float) -> None:
    name = word(record.get("s"), limit=20)
    if not name:
        return
    _progress(state, record)
    why = sentence(record.get("why"))
    if time >= state.state_time:
        if name != state.state or why:
            state.note(Event(time, "state", f"{name}: {why}" if why else name, whole(record.get("step"))))
        state.state, state.why, state.state_time = name, why, time


def _metrics(state: RunState, record: Mapping[str, Any], time: float) -> None:
    step = whole(record.get("step"))
    if step is None or not _current(state, record, step):
        return
    previous = state.seconds_at_step
    now = time - (state.origin or 0.0)
    seconds = finite(record.get("step_ms"))
    if seconds is not None:
        seconds /= 1000
    elif previous.xs and step > previous.xs[-1]:
        seconds = (now - previous.ys[-1]) / (step - previous.xs[-1])
    if seconds is not None and seconds > 0:
        state.step_seconds.append(seconds)
    previous.add(step, now)
    state.boundary = max(time, state.boundary or time)
    _progress(state, record)
    _numbers(state, record, step)
    take_torch_memory(state, record.get("mem_ranks") or record.get("mem"), now)


def _eval(state: RunState, record: Mapping[str, Any], time: float) -> None:
    step = whole(record.get("step"))
    if step is None or not _current(state, record, step):
        return
    nested = record.get("metrics")
    _numbers(state, nested if isinstance(nested, Mapping) else record, step)
    loss = state.value("eval_loss")
    state.note(Event(time, "eval", "evaluated" if loss is None else f"evaluated: eval_loss {loss:.4g}", step))


def _probe(state: RunState, record: Mapping[str, Any], time: float) -> None:
    """What the model still knows elsewhere: `forgetting/<skill>` in nats a token."""
    step, nested = whole(record.get("step")), record.get("metrics")
    if step is not None and isinstance(nested, Mapping) and _current(state, record, step):
        _numbers(state, nested, step)


def _log(state: RunState, record: Mapping[str, Any], time: float) -> None:
    text = record.get("text")
    if isinstance(text, str):
        lines = clean_log(text)
        state.log.extend(lines)
        state.log_seen += len(lines)


def _checkpoint(state: RunState, record: Mapping[str, Any], time: float) -> None:
    step = whole(record.get("step"))
    seconds, count = finite(record.get("seconds")), finite(record.get("bytes"))
    parts = [f"checkpoint {word(record.get('path'), limit=4096).rpartition('/')[2] or step}"]
    parts += [figures.size(count)] if count is not None else []
    parts += [f"{seconds:.1f} s"] if seconds is not None else []
    whole_one = record.get("complete") is not False
    parts += [] if whole_one else [f"not written: {sentence(record.get('error')) or 'no reason given'}"]
    if whole_one:
        state.checkpoint = step, count, seconds
    state.note(Event(time, "checkpoint", ", ".join(parts), step))


def _heartbeat(state: RunState, record: Mapping[str, Any], time: float) -> None:
    _progress(state, record)
    since = finite(record.get("since_boundary_s"))
    if since is not None and since >= 0 and source(record) in ("", f"trainer-{state.attempt}"):
        state.boundary = max(time - since, state.boundary or 0.0)


def _warning(state: RunState, record: Mapping[str, Any], time: float) -> None:
    text = sentence(record.get("text"))
    if text:
        state.note(Event(time, "warning", text))


def _data(state: RunState, record: Mapping[str, Any], time: float) -> None:
    figures = [f"{count:,} {name.replace('_', ' ')}" for name in ("rows", "sequences", "tokens") if (count := whole(record.get(name)))]
    dropped = whole(record.get("dropped"))
    more = ([f"{dropped:,} dropped"] if dropped else []) + (["as inspected"] if record.get("inspected") == "same" else [])
    state.note(Event(time, "data", "data: " + ", ".join([*figures, *more])))


def _proof(state: RunState, record: Mapping[str, Any], time: float) -> None:
    if source(record) not in ("", f"trainer-{state.attempt}"):
        return  # an older attempt, read late
    state.proof = read_proof(record)
    state.note(Event(time, "proof", state.proof.sentence))


def _split(state: RunState, record: Mapping[str, Any], time: float) -> None:
    """Which micro-batches were measured before step 1, and which were taken."""
    why = sentence(record.get("why"))
    if why:
        state.note(Event(time, "split", f"micro-batches {why}"))


def _crash(state: RunState, record: Mapping[str, Any], time: float) -> None:
    tail = next((record[key] for key in ("tail", "log_tail", "log") if key in record), ())
    lines = tail if isinstance(tail, list) else clean_log(tail) if isinstance(tail, str) else []
    state.crash = Crash(
        kind=word(record.get("class")) or "crash",
        hint=sentence(record.get("hint")),
        returncode=whole(record.get("rc")),
        signal=word(record.get("signal")) or str(whole(record.get("signal")) or ""),
        last_step=whole(record.get("last_step")),
        traceback=printable(record["traceback"], newlines=True, limit=20_000) if isinstance(record.get("traceback"), str) else "",
        tail=tuple(printable(line, limit=500) for line in lines[-50:] if isinstance(line, str)),
    )
    state.note(Event(time, "crash", state.crash.hint or f"the trainer died ({state.crash.kind})", state.crash.last_step))
    if time >= state.state_time:
        state.state, state.why, state.state_time = "failed", state.crash.hint, time


def _end(state: RunState, record: Mapping[str, Any], time: float) -> None:
    _progress(state, record)
    reason = word(record.get("reason"), limit=300)
    final = next((name for name in ("failed", "stopped", "done") if reason.startswith(name)), "")
    text = f"ended: {reason}" if reason else "ended"
    if not (state.events and state.events[-1].text == text):  # trainer and hub both say it
        state.note(Event(time, "end", text, whole(record.get("step"))))
    if final and time >= state.state_time:
        state.state, state.state_time = final, time


_TAKERS: dict[str, Callable[[RunState, Mapping[str, Any], float], None]] = {
    "hello": _hello,
    "state": _state,
    "metrics": _metrics,
    "eval": _eval,
    "gpu": take_gpus,
    "host": take_host,
    "probe": _probe,
    "log": _log,
    "checkpoint": _checkpoint,
    "hb": _heartbeat,
    "command": take_command,
    "applied": take_applied,
    "sample": take_sample,
    "alarm": take_alarm,
    "seam": take_seam,
    "warning": _warning,
    "data": _data,
    "proof": _proof,
    "split": _split,
    "oom": take_out_of_memory,
    "crash": _crash,
    "end": _end,
}


def clean_log(text: str) -> list[str]:
    """The lines of a log text: colours dropped, of a progress bar only what it shows last, everything else made printable."""
    lines = _ESCAPES.sub("", text).splitlines() if "\r" not in text else _ESCAPES.sub("", text).replace("\r\n", "\n").split("\n")
    return [printable(line.rstrip("\r").rpartition("\r")[2].replace("\t", "    "), limit=2000) for line in lines]


def _follow_attempt(state: RunState, record: Mapping[str, Any], time: float) -> None:
    """A newer attempt trains from an earlier checkpoint: what the older one did beyond it does not count any more."""
    name, _, digits = source(record).partition("-")
    attempt = int(digits) if name == "trainer" and digits.isdecimal() and len(digits) < 9 else 0
    if attempt <= state.attempt:
        return
    if state.attempt:
        state.note(Event(time, "attempt", f"attempt {attempt}"))
        state.crash, state.not_finite, state.proof = None, None, None
        state.step_seconds.clear()
        state.boundary = None
    state.attempt, state.attempt_from, state.step = attempt, math.inf, None  # until its first step is known


def _current(state: RunState, record: Mapping[str, Any], step: int) -> bool:
    """Whether a step's figures still count; at the first step of a new attempt the older attempt's later points are dropped."""
    if source(record) != f"trainer-{state.attempt}":
        return state.attempt == 0 or step <= state.attempt_from
    if state.attempt_from == math.inf:
        state.attempt_from = step - 1
        if state.attempt > 1 and state.seam is None:  # an older trainer, which tells no seam
            seam = state.seams[state.attempt] = Seam(state.attempt, step - 1, "", ())
            state.note(Event(state.last_time or 0.0, "seam", seam.words, seam.step))
        for series in (*state.metrics.values(), state.seconds_at_step):
            series.drop_after(step - 1)
    return True


def _progress(state: RunState, record: Mapping[str, Any]) -> None:
    if source(record) not in ("", "hub", f"trainer-{state.attempt}"):
        return  # an older attempt, read late
    step, last = whole(record.get("step")), whole(record.get("max_steps"))
    if step is not None and (state.step is None or step > state.step):
        state.step = step
    if last is not None and last > 0:
        state.max_steps = last
    epoch = finite(record.get("epoch"))
    state.epoch = epoch if epoch is not None else state.epoch


def _numbers(state: RunState, values: Mapping[str, Any], step: int) -> None:
    for key, raw in values.items():
        if key in ENVELOPE or not isinstance(key, str) or isinstance(raw, bool):
            continue
        value = as_number(raw)
        if value is None:
            continue
        name = printable(key, limit=60)
        series = state.metrics.get(name)
        if series is None:
            if len(state.metrics) >= MAX_METRICS:
                continue
            series = state.metrics[name] = Series()
        series.add(step, value)
        if not math.isfinite(value) and name in ("loss", "grad_norm", "eval_loss") and state.not_finite is None:
            state.not_finite = (name, step)
            state.note(Event(state.last_time or 0.0, "number", f"{name} is {value}: the run diverges", step))
