"""What a command will do and when, as the confirmations and the command bar say it."""

import pytest

from tests.support import journals
from tests.unit.workbench.live import NOW, in_state, running
from tuitune.workbench.live_complete import parse
from tuitune.workbench.live_state import ACCUMULATION, BATCH
from tuitune.workbench.live_words import batch_sentences, paused_words, sentences, title, when

SLOW = 8.0  # seconds a step


def said(line: str, **options: float) -> str:
    op, args = parse(line)
    return " ".join(sentences(op, args, running(**options), NOW))


def test_the_moment_is_the_next_boundary_and_about_when_that_is() -> None:
    now = journals.START + 4 + 30 * SLOW + 2  # two seconds after the boundary of step 30
    state = running({"t": now, "ev": "hb", "step": 30, "since_boundary_s": 2.0}, step_seconds=SLOW)
    assert when(state, now) == "at the end of step 31 (about 6 s from now)"


def test_the_moment_depends_on_what_the_run_does() -> None:
    assert when(in_state("paused"), NOW) == "at once (the run is paused)"
    assert when(in_state("evaluating"), NOW) == "when it is done evaluating"
    assert when(in_state("loading"), NOW) == "at the end of the first step, after loading"


@pytest.mark.parametrize(
    ("line", "pieces"),
    [
        ("set learning_rate=5e-5", ["At the end of step 31", "learning_rate 1.00e-4 → 5.00e-5.", "goes on, scaled by 0.5"]),
        ("set learning_rate=5e-5 kind=hold", ["It stays there to the end (step 60)."]),
        ("set learning_rate=5e-5 kind=linear", ["Then it goes (linear) to 0 at step 60."]),
        ("set learning_rate=5e-5 kind=cosine steps=9 end=1e-6", ["Then it goes (cosine) to 1.00e-6 within 9 steps."]),
        ("set lr_scheduler=linear", ["From 1.00e-4 on it falls (linear) to 0 at step 60."]),
        ("set lr_scheduler=constant", ["From 1.00e-4 on it stays there."]),
        ("set max_steps=100", ["the run ends after step 100, about 35 s later; planned were 60."]),
        ("set save_steps=10", ["it saves a checkpoint every 10 steps, now every 25."]),
        ("save", ["it saves a checkpoint and goes on. The last one took 0.2 s (37.2 MiB)."]),
        ("evaluate", ["it evaluates and goes on. The last one took 0.2 s."]),
        ("sample", ["it answers the prompts of watch.prompts and goes on"]),
        ("pause", ["it waits, taking commands.", "trim: gives cached GPU memory back", "suspend: saves, ends the trainer"]),
        ("pause mode=keep", ["keep: keeps all memory"]),
        ("stop save=false", ["it ends without saving."]),
        ("kill", ["What was learnt since the checkpoint of step 25 is lost."]),
        ("stacks", ["where each of its threads is into its log"]),
    ],
)
def test_each_command_says_what_it_does(line: str, pieces: list[str]) -> None:
    for piece in pieces:
        assert piece in said(line)


def test_a_change_that_was_applied_is_the_present_value_of_the_next() -> None:
    state = running(
        {"ev": "command", "id": "a", "op": "set", "args": {"key": "save_steps", "value": 10}},
        {"ev": "applied", "id": "a", "op": "set", "step": 30, "ok": True, "old": 25, "new": 10},
    )
    assert "now every 10" in " ".join(sentences(*parse("set save_steps=5"), state, NOW))


def test_a_reshape_shows_the_effective_batch_and_warns_when_it_changes() -> None:
    args = {BATCH: 2, ACCUMULATION: 8}
    assert "Effective batch: 4 × 4 = 16 → 2 × 8 = 16: the same updates." in batch_sentences(args, running(), NOW, (4, 4))
    changed = " ".join(batch_sentences({BATCH: 2, ACCUMULATION: 4}, running(), NOW, (4, 4)))
    assert "4 × 4 = 16 → 2 × 4 = 8." in changed
    assert "! It changes: each update averages over fewer rows" in changed
    assert "The learning rate was chosen for 16." in changed
    assert "not known" in " ".join(batch_sentences(args, running(), NOW, None))


def test_a_question_names_the_setting_and_its_value() -> None:
    assert title("set", {"key": "learning_rate", "value": 1e-4}) == "Set learning_rate to 1.00e-4?"
    assert title("save", {}) == "Save a checkpoint now?"


def test_a_paused_run_says_how_it_goes_on() -> None:
    assert paused_words(running()) == ""
    assert paused_words(in_state("paused", why="paused by ada")).startswith("‖ Paused by ada after step 30. F5 goes on")
    assert paused_words(in_state("suspended")).startswith("○ Suspended after step 30: the GPU is free")
