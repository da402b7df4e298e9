"""What a proof tells: the journal's record and the sentence of a run that does not fit. Made-up figures; no torch."""

from dataclasses import replace
from typing import Any

from tests.unit.test_import_rules import TORCH_STACK, loaded_after
from tuitune.memory.expected import Batch, Expected
from tuitune.trainer.proof_record import FALLBACK, Found, Refused, record, refusal
from tuitune.trainer.readings import OnCard, Reading, of_card

MIB, GIB = 1 << 20, 1 << 30
TRAIN, EVALUATION = Batch(4, 2048, 8192), Batch(8, 1000, 8000)
EXPECTED = Expected(
    phases={"load": 3 * GIB, "optimizer step": 4 * GIB, "forward": 8 * GIB, "backward": 10 * GIB, "evaluation": 5 * GIB},
    components={"backward": {"weights": 3 * GIB, "gradients": 7 * GIB}},
    process=11 * GIB,
    states=GIB // 2,
    context=764 * MIB,
    unused=GIB // 4,
    idle=0,
    usual=True,
)
OTHERS: list[dict[str, Any]] = [{"pid": 9, "user": "ada", "name": "python", "mem": 10 * GIB}]
READINGS: dict[str, Reading | None] = {
    "load": Reading(3 * GIB, 3 * GIB, 3 * GIB),
    "optimizer step": Reading(4 * GIB, 4 * GIB, 3 * GIB + GIB // 2),
    "forward": Reading(8 * GIB, 9 * GIB, 7 * GIB),
    "backward": Reading(int(10.5 * GIB), 11 * GIB, 4 * GIB),
}
FOUND = Found(TRAIN, EVALUATION, READINGS, "stepped", "run", OnCard("NVIDIA H200", "580", 12 * GIB, OTHERS), 11 * GIB)
REFUSED = Refused("backward", "NVIDIA H200", 140 * GIB, 130 * GIB, 9 * GIB, "2.50 GiB", OTHERS)


def test_the_record_has_planned_and_measured_bytes_and_their_difference_by_phase() -> None:
    found = record(FOUND, EXPECTED, "", 3, 1.23456)
    assert [one["phase"] for one in found["phases"]] == ["load", "optimizer step", "forward", "backward"], "only what was measured"
    backward = found["phases"][-1]
    assert (backward["planned"], backward["measured"], backward["difference"]) == (10 * GIB, int(10.5 * GIB), 5.0)
    assert backward["components"] == {"weights": 3 * GIB, "gradients": 7 * GIB}
    assert found["allocated"] == {"planned": 10 * GIB, "measured": int(10.5 * GIB), "difference": 5.0}
    assert found["process"] == {"planned": 11 * GIB, "measured": 12 * GIB, "difference": 9.1}
    assert (found["plan"], found["measured"], found["calibrated"], found["seconds"], found["hidden"]) == (None, None, 3, 1.235, False)
    assert found["batch"] == {"rows": 4, "length": 2048, "tokens": 8192, "scored": 1.0}


def test_components_are_measured_by_themselves_where_they_can_be() -> None:
    parts = {one["name"]: one for one in record(FOUND, EXPECTED, "", 0, 1)["components"]}
    assert parts["weights"]["difference"] == 0
    assert parts["optimizer states"] == {"name": "optimizer states", "planned": GIB // 2, "measured": GIB // 2, "difference": 0}
    assert parts["CUDA context and kernels"]["measured"] == GIB
    assert parts["unused by the allocator"]["measured"] == GIB // 2


def test_a_driver_that_hides_processes_leaves_their_figures_unknown_and_says_so() -> None:
    found = record(replace(FOUND, card=OnCard("NVIDIA H200", "580")), EXPECTED, "", 0, 1)
    assert found["hidden"] is True
    assert found["process"] == {"planned": 11 * GIB, "measured": None, "difference": None}


def test_without_a_plan_the_record_says_why_and_keeps_what_was_measured() -> None:
    found = record(FOUND, None, "no memory plan for models of type strange yet", 0, 1)
    assert found["plan"] == "no memory plan for models of type strange yet"
    assert found["phases"][-1]["measured"] == int(10.5 * GIB)
    assert found["phases"][-1]["difference"] is None


def test_the_refusal_names_batch_phase_figures_other_peoples_memory_and_the_change() -> None:
    told = refusal(
        REFUSED, FOUND, EXPECTED, "", ["training.per_device_train_batch_size: 2, training.gradient_accumulation_steps: 8", "b: 1"]
    )
    assert told == (
        "the longest batch (4 rows of 2,048 tokens) does not fit on NVIDIA H200 (140.00 GiB, of which this run may have 130.00 GiB): in "
        "the phase backward torch held 9.00 GiB when it asked for 2.50 GiB more (planned for this phase: 10.00 GiB); on the card, "
        "ada's python holds 10.00 GiB; to make it fit, each on top of those before: training.per_device_train_batch_size: 2, "
        "training.gradient_accumulation_steps: 8; b: 1"
    )


def test_the_refusal_says_what_it_does_not_know() -> None:
    refused = replace(
        REFUSED, phase="evaluation", asked=None, room=140 * GIB, others=[{"user": None, "name": "hidden\n\x1b[31m", "mem": None}]
    )
    told = refusal(refused, FOUND, None, "peft.use_dora is not counted", [])
    assert "(8 rows of 1,000 tokens)" in told
    assert "no plan to compare: peft.use_dora is not counted" in told
    assert "somebody's hidden" in told
    assert "holds an unknown amount" in told
    assert told.endswith(FALLBACK)
    assert "\x1b" not in told
    assert "\n" not in told


def sample(proc_mem: int | None, *others: dict[str, Any]) -> dict[str, Any]:
    return {"driver": "580", "devices": [{"uuid": "GPU-ABC", "name": "NVIDIA H200", "proc_mem": proc_mem, "others": [*others]}]}


def test_alone_on_a_card_a_process_with_a_hidden_pid_is_this_one() -> None:
    hidden = {"pid": 1, "user": None, "name": "hidden", "mem": 5 * GIB}
    assert of_card(sample(None, hidden), "abc") == OnCard("NVIDIA H200", "580", 5 * GIB, [])
    assert of_card(sample(None, hidden, hidden), "abc").process is None, "one of two, and nobody knows which"
    assert of_card(sample(None, OTHERS[0]), "abc").process is None, "that one is known, and it is not this one"
    assert of_card(sample(7 * GIB, *OTHERS), "abc") == OnCard("NVIDIA H200", "580", 7 * GIB, OTHERS)
    assert of_card(sample(7 * GIB), "another") == OnCard(driver="580")


def test_record_and_plan_of_a_proof_need_no_torch() -> None:
    assert not loaded_after("import tuitune.trainer.proof_record, tuitune.trainer.proof_plan") & TORCH_STACK
