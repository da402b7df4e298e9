"""What keeps a command from being sent to a run is said in a sentence, before anything is sent."""

from typing import Any

import pytest

from tests.support import journals
from tests.unit.workbench.live import in_state, running
from tests.unit.workbench.test_run_state import from_files, state_of
from tuitune.workbench.live_check import check, refusal
from tuitune.workbench.live_complete import parse

GOOD = """
set learning_rate=1e-4
set learning_rate=0 kind=hold
set learning_rate=1e-4 kind=linear steps=10 end=1e-5
set lr_scheduler=cosine
set max_steps=31
set logging_steps=1
pause
pause mode=suspend
save
evaluate
sample
sample prompt="What is 2+2?" max_new_tokens=8
stop save=false
reshape per_device_train_batch_size=2 gradient_accumulation_steps=8
kill
stacks
"""
WRONG = {
    "set": "set NAME=VALUE: the names are learning_rate, lr_scheduler, max_steps, logging_steps, save_steps, eval_steps.",
    "set learning_rate=-1": "learning_rate is at least 0, not -1.",
    "set learning_rate=fast": "learning_rate is a number, not fast.",
    "set learning_rate=NaN": "learning_rate is a number, not nan.",
    "set learning_rate=1e-4 kind=step": "kind is scale, hold, linear or cosine, not step.",
    "set learning_rate=1e-4 steps=5": "steps goes with kind=linear or kind=cosine: scale has none.",
    "set learning_rate=1e-4 kind=linear steps=0": "steps is at least 1, not 0.",
    "set learning_rate=1e-4 kind=linear end=-1": "end is a learning rate, 0 or more, not -1.",
    "set lr_scheduler=wild": "lr_scheduler is constant, linear or cosine, not wild.",
    "set max_steps=30": "max_steps: the run is at step 30, so the last step is 31 or later.",
    "set max_steps=40 kind=hold": "kind goes with learning_rate only.",
    "set save_steps=2.5": "save_steps is a whole number, not 2.5.",
    "set save_steps=true": "save_steps is a whole number, not true.",
    "set weight_decay=0.1": "This trainer cannot set weight_decay while it trains (it can set: "
    "learning_rate, lr_scheduler, max_steps, logging_steps, save_steps, eval_steps).",
    "pause mode=nap": "pause has the modes trim, keep or suspend, not nap.",
    "resume": "The run is not paused, it is running.",
    "sample max_new_tokens=0": "max_new_tokens is at least 1, not 0.",
    "sample prompt=42": "prompt is a text.",
    "stop save=maybe": "save is true or false.",
    "save now=true": "save takes no arguments, not now.",
    "reshape per_device_train_batch_size=2": "gradient_accumulation_steps is a whole number: say which.",
    "reshape per_device_train_batch_size=0 gradient_accumulation_steps=1": "per_device_train_batch_size is at least 1, not 0.",
    "snapshot": "This trainer does not take 'snapshot' (it takes: "
    "evaluate, kill, pause, reshape, resume, sample, save, set, stacks, stop).",
}


@pytest.mark.parametrize("line", GOOD.strip().splitlines())
def test_a_command_that_fits_is_sent(line: str) -> None:
    assert check(*parse(line), running()) == ""


@pytest.mark.parametrize(("line", "sentence"), WRONG.items())
def test_a_command_that_does_not_fit_is_not_sent_and_says_why(line: str, sentence: str) -> None:
    assert check(*parse(line), running()) == sentence


def test_while_paused_everything_is_taken_but_another_pause() -> None:
    paused = in_state("paused")
    assert refusal("pause", paused) == "The run is paused already."
    assert {op: refusal(op, paused) for op in ("set", "save", "evaluate", "sample", "stop", "reshape", "resume")} == dict.fromkeys(
        ("set", "save", "evaluate", "sample", "stop", "reshape", "resume"), ""
    )


def test_while_suspended_there_is_no_trainer_to_set_anything() -> None:
    suspended = in_state("suspended")
    assert refusal("set", suspended) == "The run is suspended: it has no trainer until it is resumed."
    assert {refusal(op, suspended) for op in ("resume", "stop", "kill")} == {""}


def test_before_the_trainer_has_said_what_it_takes_only_the_hub_is_asked() -> None:
    loading = state_of({"src": "hub", "t": 1.0, "ev": "state", "s": "starting"})
    assert "still loading" in refusal("set", loading)
    assert refusal("kill", loading) == ""


def test_an_ended_run_takes_nothing() -> None:
    ended = state_of(*from_files(hub=journals.hub_records(), trainer_1=journals.trainer_records()))
    assert refusal("kill", ended) == "The run is done; there is no trainer to ask."


@pytest.mark.parametrize("caps", [None, 3, [None, 5, {}, {"name": 3}], [{"name": "set", "keys": 7}], [{"name": "set", "keys": [None, {}]}]])
def test_a_hello_of_any_shape_is_survived(caps: Any) -> None:
    state = state_of(
        {"src": "trainer-1", "t": 1.0, "ev": "hello", "caps": caps}, {"src": "trainer-1", "t": 2.0, "ev": "state", "s": "running"}
    )
    assert check("set", {"key": "learning_rate", "value": 1}, state)
