"""What a run's state says after its journal was read, in whatever order and however broken the records are."""

import math
import random
from itertools import chain
from typing import Any

import pytest

from tests.support import journals
from tuitune.workbench.run_reduce import clean_log, lost, reduce
from tuitune.workbench.run_state import RunState


def state_of(*records: dict[str, Any]) -> RunState:
    state = RunState()
    for record in records:
        reduce(state, record)
    return state


def from_files(**files: Any) -> list[dict[str, Any]]:
    return [{**record, "src": source.replace("_", "-")} for source, records in files.items() for record in journals.numbered(records)]


def whole_run(gpus: int = 0) -> list[dict[str, Any]]:
    return from_files(hub=journals.hub_records(gpus=gpus), trainer_1=journals.trainer_records(gpus=gpus))


def test_a_finished_run_knows_its_steps_losses_and_end() -> None:
    state = state_of(*whole_run())
    assert (state.state, state.step, state.max_steps, state.epoch) == ("done", 60, 60, 3.0)
    assert list(state.metrics["loss"].xs) == list(range(1, 61))
    assert list(state.metrics["eval_loss"].xs) == [20, 40, 60]
    assert state.over
    assert state.eta is None
    assert state.caps == ("stop", "save", "evaluate")


def test_every_numeric_metric_becomes_a_series_under_its_own_name() -> None:
    state = state_of(*whole_run())
    assert {"loss", "learning_rate", "grad_norm", "tokens_per_second", "mean_token_accuracy", "entropy", "eval_loss", "epoch"} <= set(
        state.metrics
    )
    assert not {"v", "n", "t", "step", "max_steps", "mem"} & set(state.metrics)


def test_the_order_in_which_files_are_read_does_not_matter() -> None:
    hub, trainer = from_files(hub=journals.hub_records(gpus=1)), from_files(trainer_1=journals.trainer_records(gpus=1))
    one, other = state_of(*hub, *trainer), state_of(*trainer, *hub)
    shuffled = [record for pair in zip(hub, trainer) for record in pair] + hub[len(trainer) :] + trainer[len(hub) :]
    for state in (one, other, state_of(*shuffled)):
        assert state.state == "done"
        assert list(state.metrics["loss"].ys) == list(one.metrics["loss"].ys)
        assert (state.first_time, state.last_time) == (one.first_time, one.last_time)


def test_time_left_is_the_median_step_time_times_the_steps_left() -> None:
    running = [record for record in from_files(trainer_1=journals.trainer_records(30, max_steps=60)) if record["ev"] != "end"]
    state = state_of(*running)
    assert state.eta == pytest.approx(30 * 0.5)
    reduce(state, {"src": "trainer-1", "t": journals.START + 500, "ev": "metrics", "step": 31, "max_steps": 60, "step_ms": 480_000})
    assert state.eta == pytest.approx(29 * 0.5), "one slow step does not bend it"


def test_without_step_ms_the_time_between_records_counts() -> None:
    state = state_of(
        *({"ev": "metrics", "t": 100.0 + 2 * step, "step": step * 5, "max_steps": 100, "loss": 1.0} for step in range(1, 5)),
    )
    assert state.eta == pytest.approx((100 - 20) * 2 / 5)


def test_a_gpu_has_its_history_and_the_torch_figures_beside_it() -> None:
    state = state_of(*whole_run(gpus=2))
    assert len(state.gpus) == 2
    first = next(iter(state.gpus.values()))
    assert first.now.name == "NVIDIA H200"
    assert first.now.others[0].user == "ada"
    assert first.used.last == 21 * journals.GIB
    assert len(first.used) == 36
    assert len(state.torch) == 2
    assert state.torch[1].reserved.last == pytest.approx(9.5 * journals.GIB)


@pytest.mark.parametrize(
    "memory",
    [
        {"alloc": 1.0, "reserved": 2.0},
        [{"alloc": 1.0, "reserved": 2.0}],
        {"alloc": [1.0], "reserved": [2.0]},
    ],
)
def test_torch_memory_is_read_in_every_shape_it_may_come_in(memory: object) -> None:
    state = state_of({"ev": "metrics", "t": 5.0, "step": 1, "mem": memory})
    assert (state.torch[0].allocated.last, state.torch[0].reserved.last) == (1.0, 2.0)


def test_without_a_gpu_the_sentence_and_the_box_are_kept() -> None:
    state = state_of(*whole_run())
    assert state.gpus == {}
    assert state.gpu_now.error == "no NVIDIA GPU: training runs on the CPU"
    assert state.host_now.ram_total == 23 * journals.GIB
    assert state.tree_rss.last == pytest.approx(1.9 * journals.GIB)


def test_a_loss_that_is_not_a_number_is_kept_and_marked_at_its_first_step() -> None:
    state = state_of(
        *({"ev": "metrics", "t": float(step), "step": step, "loss": loss} for step, loss in [(1, 2.0), (2, "nan"), (3, "inf")])
    )
    assert state.not_finite == ("loss", 2)
    assert math.isnan(state.metrics["loss"].ys[1])
    assert math.isinf(state.metrics["loss"].ys[2])
    assert [event.step for event in state.marks() if event.kind == "number"] == [2]


def test_a_resumed_run_shows_the_steps_of_its_newest_attempt_once() -> None:
    first = from_files(trainer_1=journals.trainer_records(40, max_steps=60))
    second = from_files(trainer_2=journals.trainer_records(60, first=26, start=journals.START + 60, max_steps=60))
    for order in (first + second, first[:20] + second + first[20:]):
        state = state_of(*order)
        loss = state.metrics["loss"]
        assert list(loss.xs) == list(range(1, 61))
        expected = {record["step"]: record["loss"] for record in first if record["ev"] == "metrics" and record["step"] < 26}
        expected |= {record["step"]: record["loss"] for record in second if record["ev"] == "metrics"}
        assert list(loss.ys) == list(expected.values())
        assert (state.attempt, state.step) == (2, 60)


def test_a_new_attempt_starts_again_at_its_checkpoint() -> None:
    state = state_of(
        *from_files(trainer_1=journals.trainer_records(40, max_steps=60)),
        {"src": "trainer-2", "t": journals.START + 60, "ev": "state", "s": "loading", "step": 25},
    )
    assert (state.state, state.step) == ("loading", 25)
    assert "attempt" in {event.kind for event in state.events}


def test_commands_are_followed_from_asking_to_applied_or_failed() -> None:
    asked = {"src": "hub", "t": 1.0, "ev": "command", "id": "a", "op": "save", "args": {}, "by": "ada"}
    done = {"src": "trainer-1", "t": 2.0, "ev": "applied", "id": "a", "op": "save", "ok": True, "step": 7}
    for order in ((asked, done), (done, asked)):
        command = state_of(*order).commands["a"]
        assert (command.op, command.by, command.state, command.step) == ("save", "ada", "applied", 7)
    refused = state_of(asked, {**done, "ok": False, "error": "no eval split"}).commands["a"]
    assert (refused.state, refused.error) == ("failed", "no eval split")


def test_a_crash_keeps_its_hint_and_ends_the_run() -> None:
    state = state_of(*from_files(hub=journals.hub_records(final="crash"), trainer_1=journals.trainer_records()))
    assert state.state == "failed"
    assert state.crash is not None
    assert "halve per_device_train_batch_size" in state.crash.hint
    assert (state.crash.kind, state.crash.returncode, state.crash.last_step) == ("gpu out of memory", 1, 60)
    assert "OutOfMemoryError" in state.crash.traceback


def test_a_run_whose_processes_vanished_is_lost_but_an_ended_one_is_not() -> None:
    running = state_of(*from_files(trainer_1=journals.trainer_records(10)))
    lost(running, "gone")
    assert (running.state, running.why) == ("lost", "gone")
    done = state_of(*whole_run())
    lost(done, "gone")
    assert done.state == "done"


def test_log_lines_are_bounded_counted_and_cannot_drive_the_terminal() -> None:
    state = RunState()
    for number in range(3000):
        reduce(state, {"ev": "log", "t": float(number), "text": f"line {number}"})
    reduce(state, {"ev": "log", "t": 1.0, "text": "\x1b[31mred\x1b[0m \x1b]0;title\x07 bell\x07 \x1b"})
    assert len(state.log) == 2000
    assert state.log_seen == 3001
    assert state.log[-1] == "red  bell␇ ␛"


def test_of_a_progress_bar_only_its_last_look_stays() -> None:
    assert clean_log("a\r  1%\r 50%\rdone\nnext\r\n") == ["done", "next", ""]


def test_what_the_trainer_says_of_data_checkpoints_and_doubts_is_among_the_events() -> None:
    state = state_of(
        {"t": 1.0, "ev": "data", "rows": 700, "sequences": 690, "tokens": 123456, "dropped": 10},
        {"t": 2.0, "ev": "warning", "text": "watch.prompts is not done by this version"},
        {
            "t": 3.0,
            "ev": "checkpoint",
            "step": 5,
            "path": "checkpoints/checkpoint-5",
            "complete": False,
            "error": "No space left on device",
        },
    )
    assert [event.text for event in state.events] == [
        "data: 700 rows, 690 sequences, 123,456 tokens, 10 dropped",
        "watch.prompts is not done by this version",
        "checkpoint checkpoint-5, not written: No space left on device",
    ]


def test_events_of_a_newer_version_and_fields_nobody_knows_do_no_harm() -> None:
    state = state_of(*whole_run())
    before = state.records
    reduce(state, {"v": 9, "n": 1, "t": 1.0, "ev": "teleport", "where": [1, 2]})
    reduce(state, {"src": "trainer-1", "ev": "metrics", "t": journals.START + 40, "step": 61, "loss": 0.5, "future": {"deep": 1}})
    assert (state.unknown, state.records) == (1, before + 2)
    assert state.metrics["loss"].last == 0.5


def test_the_same_record_read_twice_changes_nothing() -> None:
    once, twice = state_of(*whole_run()), state_of(*chain.from_iterable((record, record) for record in whole_run()))
    assert list(once.metrics["loss"].ys) == list(twice.metrics["loss"].ys)
    assert twice.metrics["loss"].rewrites == 0


def test_names_without_end_do_not_fill_the_memory() -> None:
    state = state_of(*({"ev": "metrics", "t": 1.0, "step": 1, f"name{number}": 1.0} for number in range(1000)))
    assert len(state.metrics) == 400


GARBAGE: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1e308,
    2**80,
    10**400,
    "nan",
    "inf",
    "-inf",
    "",
    "text",
    "\x1b[2J",
    [],
    [None],
    [[1]],
    {},
    {"a": {}},
    float("nan"),
    float("inf"),
    {"alloc": "x", "reserved": [1, None]},
    [{"index": "a", "others": 3, "reasons": "x"}, 5],
    ["a", {"name": 3}],
    b"bytes",
    {1: 2},
]


@pytest.mark.parametrize("seed", range(40))
def test_garbage_of_any_type_in_any_field_never_raises(seed: int) -> None:
    """Records of every known kind with every field replaced, dropped or added at random, between good ones."""
    dice = random.Random(seed)
    state = RunState()
    good = whole_run(gpus=1) + from_files(hub=journals.hub_records(final="crash"))
    fields = sorted({key for record in good for key in record} | {"args", "by", "id", "error", "ok", "text", "phase", "log tail", "tail"})
    for _ in range(400):
        record = dict(dice.choice(good))
        if dice.random() < 0.3:
            record["ev"] = dice.choice(["command", "applied", "sample", "oom", "hb", "checkpoint", "eval", "host", *GARBAGE[:12]])
        for key in dice.sample(fields, k=dice.randint(0, 6)):
            record[key] = dice.choice(GARBAGE)
        for key in dice.sample(sorted(record), k=dice.randint(0, 2)):
            record.pop(key)
        reduce(state, record)
        assert state.eta is None or state.eta >= 0
        assert state.elapsed is None or state.elapsed >= 0
        list(state.marks())
    for thing in GARBAGE:
        reduce(state, thing)
    reduce(state, {"t": journals.START + 9e6, "ev": "metrics", "step": 10**6, "loss": 1.25, "src": "trainer-1"})
    assert state.metrics["loss"].at(10**6) == 1.25 or state.attempt > 1
