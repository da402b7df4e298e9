"""launch.retry: after which faults the hub starts again by itself, how often, and with what batch."""

import json

import pytest

from tests.support.living_hub import RECIPE
from tuitune.hub.faults import HINTS
from tuitune.hub.retry import KINDS, Retry, decide, halved, policy
from tuitune.hub.wishes import batch_of, keep_batch
from tuitune.runs.directory import RunDirectory, create_run
from tuitune.runs.manifest import Manifest

TWICE = {"oom": 2, "crash": 2}


def after(
    fault: str, allowed: dict[str, int] = TWICE, retried: dict[str, int] | None = None, batch: tuple[int, int] | None = (4, 2)
) -> Retry:
    return decide(fault, allowed, retried or {}, batch=batch, began=True)


@pytest.mark.parametrize(
    ("batch", "smaller"),
    [
        ((8, 1), (4, 2)),
        ((4, 4), (2, 8)),
        ((2, 8), (1, 16)),
        ((6, 1), (3, 2)),
        ((5, 1), (1, 5)),
        ((5, 2), (2, 5)),
        ((7, 3), (3, 7)),
        ((1, 8), None),
    ],
)
def test_half_the_batch_keeps_the_rows_of_an_update(batch: tuple[int, int], smaller: tuple[int, int] | None) -> None:
    assert halved(*batch) == smaller
    if smaller is not None:
        assert smaller[0] * smaller[1] == batch[0] * batch[1]


def test_after_an_out_of_memory_the_batch_is_halved_and_told() -> None:
    retry = after("gpu_oom")
    assert (retry.again, retry.kind) == (True, "oom")
    assert retry.overrides == {"training": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}}
    assert retry.words == "oom 1 of 2, per_device_train_batch_size 4 → 2, gradient_accumulation_steps 2 → 4"


@pytest.mark.parametrize(("batch", "words"), [((1, 8), "has one row, so it cannot be halved: shorten max_length"), (None, "is not known")])
def test_a_batch_that_cannot_be_halved_ends_it_with_what_to_do(batch: tuple[int, int] | None, words: str) -> None:
    retry = after("gpu_oom", batch=batch)
    assert not retry.again
    assert words in retry.words


@pytest.mark.parametrize("fault", [kind for kind, counted in KINDS.items() if counted == "crash"])
def test_after_another_crash_the_same_again(fault: str) -> None:
    assert after(fault) == Retry(True, "crash 1 of 2", "crash")


@pytest.mark.parametrize("fault", ["user_error", "disk_full", "terminated"])
def test_what_somebody_has_to_mend_or_has_wanted_is_not_tried_again(fault: str) -> None:
    assert after(fault) == Retry(False)


def test_every_class_of_fault_has_been_thought_of() -> None:
    assert set(HINTS) - set(KINDS) == {"disk_full", "terminated"}


def test_each_kind_has_its_own_count_and_its_own_end() -> None:
    assert after("gpu_oom", retried={"oom": 1}).words.startswith("oom 2 of 2")
    assert after("gpu_oom", retried={"crash": 2}).again
    assert after("nccl", retried={"crash": 2}) == Retry(False, "launch.retry: crash: 2 is used up")
    assert after("nccl", allowed={"oom": 5, "crash": 0}) == Retry(False), "not asked for, so nothing is said"


def test_an_error_of_the_program_before_the_first_step_would_come_again() -> None:
    assert not decide("error", TWICE, {}, batch=None, began=False).again
    assert decide("native_crash", TWICE, {}, batch=None, began=False).again
    assert decide("error", TWICE, {}, batch=None, began=True).again


@pytest.mark.parametrize("launch", [{}, {"retry": None}, {"retry": {}}, {"retry": "often"}, {"retry": {"oom": "2", "crash": -1}}])
def test_what_the_recipe_does_not_say_is_never(launch: dict[str, object]) -> None:
    assert policy(launch) == {"oom": 0, "crash": 0}


# --- which batch failed -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return create_run(tmp_path, "demo", RECIPE + "training: {per_device_train_batch_size: 4, gradient_accumulation_steps: auto}\n")


def ledger(run: RunDirectory, **values: object) -> None:
    entries = [{"section": "training", "key": key, "value": value, "source": "default"} for key, value in values.items()]
    run.effective.write_text(json.dumps({"schema": 1, "values": entries}))


def test_the_batch_is_the_one_that_was_in_force(run: RunDirectory) -> None:
    assert batch_of(run, {}) is None, "the accumulation is said nowhere"
    ledger(run, per_device_train_batch_size=8, gradient_accumulation_steps=2)
    assert batch_of(run, {}) == (8, 2), "as the trainer read it back"
    assert batch_of(run, {"training": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 8}}) == (2, 8)
    run.effective.write_text("{")
    assert batch_of(run, {"training": {"gradient_accumulation_steps": 3}}) == (4, 3)


def test_a_batch_that_was_changed_live_is_what_later_attempts_have(run: RunDirectory) -> None:
    manifest = Manifest("demo", overrides={"training": {"max_steps": 9}})
    new = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 6}
    for refused in ({"ok": False, "new": new}, {"ok": True}, {"ok": True, "new": 3}, {"op": "set", "ok": True, "new": new}):
        keep_batch(manifest, {"op": "reshape", **refused})
    assert manifest.overrides == {"training": {"max_steps": 9}}
    keep_batch(manifest, {"op": "reshape", "ok": True, "error": None, "new": new})
    assert manifest.overrides == {"training": {"max_steps": 9, **new}}
    assert batch_of(run, manifest.overrides) == (2, 6), "and what is halved when memory runs out"
