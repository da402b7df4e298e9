"""Why a run is slow, from the records of its journal: what each cause costs, and what is proposed for it."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tuitune.bus.journal import JournalTail
from tuitune.runs.slow import report
from tuitune.runs.slow.findings import Finding, WhySlow, why_slow
from tuitune.runs.slow.mfu import Utilisation, peak_of, utilisation
from tuitune.runs.slow.tally import Tally

RECORDED = Path(__file__).parents[2] / "support" / "recorded"
GIB = 1 << 30
H100 = "NVIDIA H100 80GB HBM3"
WORK = {"weights": 10**9, "head": 0, "layers": 0, "query_width": 0, "full": False, "recompute": 0.0, "reference": False, "why": None}
CAPS = [
    {"name": "set", "keys": [{"name": "eval_steps"}, {"name": "save_steps"}]},
    {"name": "reshape", "per_device_train_batch_size": 4, "gradient_accumulation_steps": 4},
]
SETTINGS = {
    "recipe.task": "sft",
    "training.packing": False,
    "training.per_device_train_batch_size": 4,
    "training.gradient_accumulation_steps": 4,
    "training.eval_strategy": "steps",
    "training.eval_steps": 50,
    "training.save_strategy": "steps",
    "training.save_steps": 100,
    "training.dataloader_num_workers": 0,
}


class Journal:
    """A run's records, one after the other in time, and what they make of it."""

    def __init__(self, card: str | None = H100, **hello: Any) -> None:
        self.time, self.tally = 1000.0, Tally()
        devices = [{"uuid": "GPU-1", "name": card}] if card else []
        self.tell("hello", **{"devices": devices, "world": 1, "work": WORK, "caps": CAPS, **hello})
        self.tell("state", s="running")

    def tell(self, ev: str, after: float = 0.0, src: str = "trainer-1", **fields: Any) -> None:
        self.time += after
        self.tally.take({"v": 1, "t": self.time, "ev": ev, "src": src, **fields})

    def steps(self, count: int = 20, wall: float = 1000.0, mem: float | None = None, **parts: float | None) -> None:
        """Logs of one step each, which take `wall` milliseconds."""
        known = {"data_ms": 0.0, "gpu_behind_ms": 600.0, "tokens_computed": 8000.0, "padding_share": 0.0}
        for step in range(1, count + 1):
            memory = None if mem is None else {"peak_reserved": mem * GIB}
            told = {"steps": 1, "wall_ms": wall, **known, **parts}
            self.tell("metrics", wall / 1000, step=step, max_steps=1000, mem=memory, parts=told)

    def gpu(self, seconds: int = 10, **sample: Any) -> None:
        known = {"util": 98, "reasons": [], "sm_clock": 1980, "mem_total": 80 * GIB, "power_limit": 700.0, **sample}
        for _ in range(seconds):
            self.tell("gpu", src="hub", devices=[{"uuid": "GPU-1", **known}, {"uuid": "GPU-2", **known, "util": 0}])

    def why(self, **settings: Any) -> WhySlow:
        return why_slow(self.tally, {**SETTINGS, **{f"training.{key}": value for key, value in settings.items()}})

    def finding(self, kind: str, **settings: Any) -> Finding:
        return next(finding for finding in self.why(**settings).findings if finding.kind == kind)


def test_a_run_whose_steps_are_all_arithmetic_has_nothing_to_change() -> None:
    run = Journal()
    run.steps()
    run.gpu()
    assert run.why().findings == ()
    assert run.why().bound == "compute"


def evaluated(steps: int, seconds: float, **settings: Any) -> Finding:
    """What is found of a run of a second a step that has evaluated after each `steps`, twice."""
    run = Journal()
    for name, value in settings.items():
        run.tell("applied", op="set", ok=True, key=name, new=value)
    for _ in range(2):
        run.steps(steps)
        run.tell("state", s="evaluating")
        run.tell("state", seconds, s="running")
        run.tell("eval", step=steps, metrics={"eval_loss": 1.0})
    return run.finding("evaluation", eval_steps=steps)


def test_evaluations_cost_their_share_and_are_proposed_less_often() -> None:
    """As often as is needed to bring them to 5 %; nothing that is learnt changes."""
    found = evaluated(steps=50, seconds=14.1)
    assert found.cost == pytest.approx(0.22, abs=0.001)
    assert found.short == "evaluation 22 %"
    assert found.proposal is not None
    assert found.proposal.changes == (("training.eval_steps", 50, 300),)
    assert found.proposal.live == "set eval_steps=300"
    assert not found.proposal.learns
    assert evaluated(steps=50, seconds=2).proposal is None, "4 % are no waste"


def test_a_run_is_evaluated_twice_at_least() -> None:
    """Of 1,000 steps; where that does not help, the evaluation itself has to become shorter."""
    proposal = evaluated(steps=250, seconds=1000).proposal
    assert proposal is not None
    assert proposal.changes == (("training.eval_steps", 250, 500),)
    shorter = evaluated(steps=500, seconds=1000).proposal
    assert shorter is not None
    assert shorter.text == "evaluate fewer rows: max_rows of dataset.eval"


def test_a_setting_that_was_changed_while_it_trains_is_the_present_one() -> None:
    """What it took before is past: a change that is enough is followed by no proposal."""
    assert evaluated(steps=50, seconds=10, eval_steps=400).proposal is None
    proposal = evaluated(steps=50, seconds=10, eval_steps=100).proposal
    assert proposal is not None
    assert proposal.changes == (("training.eval_steps", 100, 200),)


def test_answers_to_prompts_are_no_evaluation_and_pauses_no_fault() -> None:
    """Both are the state "evaluating"; only an evaluation has an `eval` record after it."""
    run = Journal()
    run.steps(70)
    for state, seconds in (("evaluating", 10.0), ("saving", 10.0), ("paused", 10.0)):
        run.tell("state", s=state)
        run.tell("state", seconds, s="running")
    assert "answers" not in {finding.kind for finding in run.why().findings}, "its figures may still come"
    run.tell("metrics", step=71, parts=None)
    found = {finding.kind: finding for finding in run.why().findings}
    assert {kind: round(finding.cost or 0, 3) for kind, finding in found.items()} == {"answers": 0.1, "checkpoints": 0.1, "pauses": 0.1}
    assert found["pauses"].proposal is None
    checkpoints = found["checkpoints"].proposal
    assert checkpoints is not None
    assert checkpoints.text == "save_steps 100 → 200; a crash then costs more steps"


def test_waiting_for_data_is_answered_with_workers_on_a_gpu() -> None:
    run = Journal()
    run.steps(data_ms=300.0)
    found = run.finding("data")
    assert found.cost == pytest.approx(0.3)
    assert found.proposal is not None
    assert found.proposal.changes == (("training.dataloader_num_workers", 0, 2),)
    assert "same rows in the same order" in found.proposal.text
    alone = Journal(card=None)
    alone.steps(data_ms=300.0, gpu_behind_ms=None)
    assert alone.finding("data").proposal is None, "on the CPU the workers would take the training's cores"


def test_padded_rows_are_proposed_to_be_joined_which_changes_nothing() -> None:
    run = Journal()
    run.steps(padding_share=0.38)
    found = run.finding("padding")
    assert found.cost == pytest.approx(0.38)
    assert found.proposal is not None
    assert found.proposal.changes == (("training.padding_free", False, "auto"),)
    assert not found.proposal.learns


def test_where_they_cannot_be_joined_they_can_be_packed_and_that_says_what_it_changes() -> None:
    run = Journal()
    run.steps(padding_share=0.38)
    refused = why_slow(run.tally, {**SETTINGS, "chosen": {"training.padding_free"}}).findings[0].proposal
    assert refused is not None
    assert refused.changes == (("training.packing", False, True),)
    assert "changes what is learnt" in refused.text
    preferences = why_slow(run.tally, {**SETTINGS, "recipe.task": "dpo"}).findings[0].proposal
    assert preferences is not None
    assert preferences.text == "per_device_train_batch_size 4 → 2 and gradient_accumulation_steps 4 → 8: the same rows an update"


def test_a_batch_that_tuitune_has_chosen_is_not_to_be_written_beside_rows_per_update() -> None:
    run = Journal()
    run.gpu(util=40)
    run.steps(gpu_behind_ms=2.0, mem=9.6)
    settings = {**SETTINGS, "chosen": {"training.per_device_train_batch_size", "training.gradient_accumulation_steps"}}
    (found,) = [one for one in why_slow(run.tally, settings).findings if one.kind == "launches"]
    assert found.proposal is None


def test_a_gpu_that_never_lags_behind_its_launches_waits_for_them() -> None:
    """The tutorial recipe of gpu/README.md: 4 × 4 rows. As large as memory is known to allow, the update as it was."""
    run = Journal()
    run.gpu(util=40)
    run.steps(gpu_behind_ms=2.0, mem=9.6)
    assert run.why().bound == "launches"
    found = run.finding("launches")
    assert found.cost == pytest.approx(0.6)
    assert found.proposal is not None
    assert found.proposal.text == "per_device_train_batch_size 4 → 16 and gradient_accumulation_steps 4 → 1: the same rows an update"
    assert found.proposal.live == "reshape per_device_train_batch_size=16 gradient_accumulation_steps=1"
    full = Journal()
    full.gpu(util=40)
    full.steps(gpu_behind_ms=2.0, mem=60.0)
    packed = full.finding("launches").proposal
    assert packed is not None
    assert packed.changes == (("training.packing", False, True),), "twice 60 GiB are not on the card"


def test_padding_costs_only_the_time_in_which_the_gpu_works() -> None:
    run = Journal()
    run.gpu(util=40)
    run.steps(gpu_behind_ms=0.0, padding_share=0.5)
    assert run.finding("padding").cost == pytest.approx(0.2)
    assert [finding.kind for finding in run.why().findings] == ["launches", "padding"], "dearest first"
    assert report.line(run.why()).startswith("slow: launches 60 %, padding 50 % · MFU ")


def test_checkpointing_on_a_nearly_empty_card_recomputes_for_nothing() -> None:
    run = Journal(work={**WORK, "recompute": 1.0})
    run.gpu()
    run.steps(mem=5.0)
    found = run.finding("recomputation", gradient_checkpointing=True)
    assert found.cost == pytest.approx(1 / 3), "2 of the 6 units of a LoRA step"
    assert found.proposal is not None
    assert found.proposal.changes == (("training.gradient_checkpointing", True, False),)
    fuller = Journal(work={**WORK, "recompute": 1.0})
    fuller.gpu()
    fuller.steps(mem=30.0)
    assert not [one for one in fuller.why(gradient_checkpointing=True).findings if one.kind == "recomputation"]


def test_heat_costs_what_the_clocks_lose_and_a_power_limit_counts_when_it_does() -> None:
    run = Journal()
    run.steps()
    run.gpu(10)
    run.gpu(10, reasons=["thermal"], sm_clock=1386)
    found = run.finding("heat")
    assert found.cost == pytest.approx(0.15)
    assert found.text == "clocks are held down by thermal in 50 % of the seconds, at 1,386 instead of 1,980 MHz"
    capped = Journal()
    capped.steps()
    capped.gpu(10)
    capped.gpu(10, reasons=["power cap"], sm_clock=1975)
    assert capped.why().findings == (), "every card works at its limit"


@pytest.mark.parametrize(
    ("work", "mfu", "hfu"),
    [
        ({}, 4, 4),
        ({"recompute": 1.0}, 4, 6),
        ({"recompute": 0.5}, 4, 5),
        ({"full": True}, 6, 6),
        ({"full": True, "recompute": 1.0}, 6, 8),
        ({"reference": True}, 6, 6),
    ],
)
def test_mfu_counts_what_the_method_needs_and_hfu_what_the_card_did(work: Mapping[str, Any], mfu: float, hfu: float) -> None:
    """In units of P a token: 10⁹ weights, 8,000 tokens a second."""
    run = Journal(work={**WORK, **work})
    run.steps(tokens_computed=10_000.0, padding_share=0.2)
    used = utilisation(run.tally)
    assert isinstance(used, Utilisation)
    assert used.mfu == pytest.approx(mfu * 8e12 / 989e12)
    assert used.hfu == pytest.approx(hfu * 10e12 / 989e12), "padding is computed like tokens"
    assert used.formula.startswith(f"{mfu}·P a token")


def test_attention_and_the_head_are_part_of_the_arithmetic() -> None:
    """Each token sees half of its row in every layer; the head is needed where a token counts for the loss."""
    run = Journal(work={**WORK, "layers": 10, "query_width": 1000, "head": 10**8})
    run.tell("data", rows=10, tokens=2000, trained_tokens=1000)
    run.steps(tokens_computed=8_000.0)
    used = utilisation(run.tally)
    assert isinstance(used, Utilisation)
    attention, head = 3 * 2 * 200 * 1000 * 10, 4 * 1e8 * 0.5
    assert used.mfu == pytest.approx(8000 * (4e9 + attention + head) / 989e12)


@pytest.mark.parametrize(
    ("card", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA A10", 125),
        ("NVIDIA GeForce RTX 3090", 71),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 5090", 209.5),
        ("Tesla T4", 65),
        ("NVIDIA A10G", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_the_peak_is_the_data_sheet_s_for_exactly_this_chip(card: str, peak: float | None) -> None:
    assert peak_of(card) == peak


@pytest.mark.parametrize(
    ("hello", "why"),
    [
        ({"card": "NVIDIA Unheard-of 9"}, "the peak of NVIDIA Unheard-of 9 is not known here"),
        ({"card": None}, "there is no GPU whose peak it could be compared with"),
        ({"work": {**WORK, "why": "what a step of grpo computes is not counted"}}, "what a step of grpo computes is not counted"),
        ({"work": None}, "the run's trainer does not say what its steps compute"),
    ],
)
def test_where_there_is_no_mfu_it_says_why(hello: dict[str, Any], why: str) -> None:
    run = Journal(**hello)
    run.steps()
    assert utilisation(run.tally) == why
    assert report.document(run.why())["no_mfu"] == why
    assert "MFU" not in report.line(run.why())


def test_only_the_newest_attempt_counts() -> None:
    run = Journal()
    run.steps(data_ms=900.0)
    run.tell("state", src="trainer-2", s="running")
    run.tell("metrics", 5, src="trainer-2", step=1, parts={"steps": 1, "wall_ms": 100.0, "data_ms": 0.0})
    run.tell("metrics", src="trainer-1", step=21, parts={"steps": 1, "wall_ms": 100.0, "data_ms": 90.0})
    assert run.why().findings == ()
    assert run.tally.total == 5


def test_a_run_recorded_before_steps_told_their_parts_has_its_states() -> None:
    """On an H200: 4 evaluations and 3 checkpoints in 4 minutes."""
    tally, tail = Tally(), JournalTail(RECORDED / "gsm8k-qlora-20261124-132627" / "journal")
    while records := tail.poll():
        for record in records:
            tally.take(record)
    why = why_slow(tally, {})
    assert [finding.short for finding in why.findings] == ["evaluation 2 %"]
    assert why.bound is None
    assert 0.97 < why.shares["running"] < 0.99


@pytest.mark.parametrize("seed", range(20))
def test_garbage_in_any_field_never_raises(seed: int) -> None:
    dice = random.Random(seed)
    values: list[Any] = [None, True, -1, 10**400, "nan", "inf", 0.0, "x", [], {}, [{}], {"steps": "inf", "wall_ms": 0}, [None, 1]]
    run = Journal()
    for _ in range(300):
        fields = ("s", "step", "parts", "mem", "devices", "work", "caps", "world", "op", "ok", "key", "new", "tokens", "rows", "reasons")
        record = {name: dice.choice(values) for name in fields if dice.random() < 0.5}
        if dice.random() < 0.3:
            record["parts"] = {name: dice.choice(values) for name in ("steps", "wall_ms", "data_ms", "tokens_computed", "padding_share")}
        if dice.random() < 0.3:
            record["work"] = {name: dice.choice(values) for name in WORK}
        kind = dice.choice(["hello", "state", "metrics", "gpu", "eval", "data", "applied", "?", None])
        source = dice.choice(["hub", "trainer-1", "trainer-x", 7, None])
        run.tally.take({"t": dice.choice([run.time, *values]), "ev": kind, "src": source, **record})
        run.steps(2)
        settings = {key: dice.choice(values) for key in SETTINGS}
        found = why_slow(run.tally, settings)
        report.line(found), report.sentences(found), report.document(found)
