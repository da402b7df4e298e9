"""What stands above a run's charts, and the sentence when something is wrong."""

from typing import Any

from tests.support import journals
from tests.unit.workbench.test_run_state import from_files, state_of
from tuitune.workbench.run_reduce import lost
from tuitune.workbench.run_state import RunState
from tuitune.workbench.views.run.header import banner, elapsed, header_lines, summary


def text_of(state: RunState, now: float, width: int = 120) -> str:
    return "\n".join("".join(text for text, _ in line) for line in header_lines(state, now, width))


def running(**last: Any) -> RunState:
    records = from_files(trainer_1=journals.trainer_records(30, max_steps=60))
    return state_of(*records, {"src": "trainer-1", "t": journals.START + 19.5, "ev": "hb", "step": 30, **last})


def test_a_living_run_says_step_share_epoch_time_left_and_speed() -> None:
    text = text_of(running(), journals.START + 20)
    for piece in ("▶ running", "step 30/60", "50%", "epoch 1.50", "eta 00:15", "elapsed 00:20", "tok/s 8.", "loss ", "lr 1.00e-4", "━━━"):
        assert piece in text
    assert "nan" not in text


def test_the_clock_goes_on_between_records_of_a_living_run_and_stops_with_an_ended_one() -> None:
    assert elapsed(running(), journals.START + 100) == 100
    done = state_of(*from_files(hub=journals.hub_records(), trainer_1=journals.trainer_records()))
    assert elapsed(done, journals.START + 10_000) == done.elapsed


def test_a_run_without_a_step_yet_says_so() -> None:
    text = text_of(state_of({"ev": "state", "t": 1.0, "s": "loading"}), 3.0)
    assert "loading" in text
    assert "no step yet" in text


def test_nothing_is_said_when_all_is_well() -> None:
    assert banner(running()) == ("", "")


def test_a_crash_says_its_hint() -> None:
    state = state_of(*from_files(hub=journals.hub_records(final="crash"), trainer_1=journals.trainer_records()))
    sentence, role = banner(state)
    assert "halve per_device_train_batch_size" in sentence
    assert role == "error"


def test_a_crash_without_a_hint_still_says_how_it_ended() -> None:
    state = state_of({"src": "hub", "t": 1.0, "ev": "crash", "rc": -9, "signal": "SIGKILL", "class": "killed"})
    assert "SIGKILL" in banner(state)[0]


def test_a_lost_run_names_its_last_checkpoint() -> None:
    state = state_of(*from_files(trainer_1=journals.trainer_records(30, max_steps=60)))
    lost(state, "its processes are gone")
    assert "its processes are gone" in banner(state)[0]
    assert "checkpoint is at step 25" in banner(state)[0]


def test_a_diverging_run_says_so_and_what_to_do() -> None:
    state = running()
    state.not_finite = ("loss", 12)
    assert "loss is not a number since step 12" in banner(state)[0]
    assert "learning_rate" in banner(state)[0]


def test_a_directory_that_is_gone_is_said_beside_what_was_read() -> None:
    assert banner(running(), "runs/x is gone.") == ("! runs/x is gone.", "warn")


def test_the_status_bar_gets_step_loss_and_speed() -> None:
    words = summary(running())
    assert words.startswith("▶ 30/60 loss ")
    assert words.endswith("tok/s")
