"""The proof's figures and its refusal on a real trainer, with stand-ins for what a GPU would answer: this box has none. What a real one
says is shown by tests/bench/proof.py."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_control import Link, build, recipe
from tests.contract.test_proof import EVALUATES, PROVE
from tests.support.tiny_model import write_rows
from tuitune.bus.journal import Journal, JournalTail
from tuitune.errors import UserError
from tuitune.trainer.stop import StopRequest

torch = pytest.importorskip("torch")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_rows(tmp_path / "train.jsonl")
    return tmp_path


def run_out_in(phase: str, trainer: Any) -> None:
    """Let a trainer run out of GPU memory where `phase` is measured."""

    def no_memory(*args: Any, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 8.00 GiB")

    name = {"forward": "compute_loss", "backward": "accelerator.backward", "evaluation": "prediction_step"}[phase]
    owner, _, method = name.rpartition(".")
    setattr(getattr(trainer, owner) if owner else trainer, method, no_memory)


@pytest.fixture
def small_card(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A stand-in for the GPU's own answers: this box has none. What a real one says is shown by tests/bench/proof.py."""
    from tuitune.trainer import proof
    from tuitune.trainer.readings import OnCard

    others = [{"pid": 7, "user": "ada", "name": "python", "mem": 3 << 30}]

    def stand_in() -> None:
        monkeypatch.setattr(proof, "_memory", lambda: (8 << 30, 8 << 30))
        monkeypatch.setattr(proof, "on_card", lambda: OnCard("Stand-in 8", "1.0", 4 << 30, others))
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 4 << 30)

    return stand_in


@pytest.mark.parametrize("phase", ["forward", "backward", "evaluation"])
def test_a_batch_that_does_not_fit_ends_the_run_with_one_sentence(
    tiny_model: Path, workspace: Path, phase: str, small_card: Callable[[], None]
) -> None:
    from tuitune.preflight.cards import Card
    from tuitune.trainer.proof import Proof
    from tuitune.trainer.proof_plan import plan_batches
    from tuitune.trainer.telemetry import Telemetry

    text = recipe(tiny_model, training=EVALUATES + ", per_device_eval_batch_size: 4")
    built, run = build(workspace, text + PROVE)
    journal, trainer = Journal(run.journal / "trainer-1.jsonl"), built.trainer
    trainer.create_optimizer_and_scheduler(6)
    run_out_in(phase, trainer)
    small_card()
    proof = Proof(built, Telemetry(journal, Link({})), trainer.get_train_dataloader())
    with pytest.raises(UserError) as refused:
        proof.prove()
    sentence = str(refused.value)
    assert f"in the phase {phase} torch held 4.00 GiB when it asked for 2.50 GiB more" in sentence
    assert "ada's python holds 3.00 GiB" in sentence
    assert "no plan to compare" in sentence
    assert "\n" not in sentence
    journal.close()
    (told,) = [one for one in JournalTail(run.journal).poll() if one["ev"] == "oom"]
    assert (told["step"], told["phase"], told["peak"]) == (0, phase, 4 << 30)
    # with a plan it says what to change: here for a card that has the memory of none
    from tuitune.memory.expected import Batch
    from tuitune.recipe.recipe import load_recipe

    (workspace / "gpu.yaml").write_text(text)
    plan = plan_batches(load_recipe(workspace / "gpu.yaml"), Card("Stand-in 8", 8 << 30, (8, 0)), Batch(2, 27, 54), Batch(4, 27, 108))
    assert plan.expected is not None, plan.why
    advice = plan.remedies(5 << 30, phase, Batch(2, 27, 54), Batch(4, 27, 108))
    assert advice[0].startswith(
        "training.per_device_eval_batch_size: 1" if phase == "evaluation" else "training.per_device_train_batch_size: 1"
    )


class Counted:
    """A stand-in for the gauge of a GPU: readings that grow by a GiB a phase. Whether a real card counts so is shown by
    tests/bench/proof.py; here it is what becomes of the figures."""

    cuda, closed = True, 0

    def __init__(self, cuda: bool) -> None:
        self.reads = 0
        Counted.closed = 0

    def read(self) -> Any:
        from tuitune.trainer.readings import Reading

        self.reads += 1
        return Reading(self.reads << 30, (self.reads << 30) + (1 << 28), self.reads << 29)

    def card(self) -> Any:
        from tuitune.trainer.readings import OnCard

        return OnCard("Stand-in 8", "1.0", 8 << 30, [])

    def close(self) -> None:
        Counted.closed += 1


@pytest.mark.parametrize("optim", ["adamw_torch", "paged_adamw_8bit"])
def test_on_a_gpu_plan_and_measurement_stand_side_by_side_and_later_plans_learn_from_it(
    tiny_model: Path, workspace: Path, optim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuitune.memory.calibration import box_of, read_calibration
    from tuitune.trainer import proof
    from tuitune.trainer.box import Box
    from tuitune.trainer.readings import OnCard
    from tuitune.trainer.telemetry import Telemetry

    monkeypatch.setenv("XDG_CACHE_HOME", str(workspace / "cache"))
    built, run = build(workspace, recipe(tiny_model, training=EVALUATES + f", optim: {optim}"))
    built.box = Box(True, "Stand-in 8", (8, 0))
    monkeypatch.setattr(proof, "Gauge", Counted)
    monkeypatch.setattr(proof, "_memory", lambda: (8 << 30, 8 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 7 << 30)
    journal, stop, trainer = Journal(run.journal / "trainer-1.jsonl"), StopRequest(), built.trainer
    trainer.create_optimizer_and_scheduler(6)
    callback = proof.ProofCallback(built, Telemetry(journal, Link({})), stop, run.name)
    callback.on_train_begin(trainer.args, trainer.state, trainer.control, train_dataloader=trainer.get_train_dataloader())
    assert stop.begun
    assert Counted.closed == 1, "what the proof cached and its peaks are given back before the training"
    (told,) = [one for one in JournalTail(run.journal).poll() if one["ev"] == "proof"]
    assert told["plan"] is told["measured"] is None
    assert all(one["planned"] and one["components"] for one in told["phases"])
    measured = [one["phase"] for one in told["phases"]]
    assert measured == ["load", *(["optimizer step"] if optim == "adamw_torch" else []), "forward", "backward", "evaluation"]
    assert ("planned, not measured" in told["optimizer"]) is (optim != "adamw_torch")
    assert told["process"]["measured"] == 8 << 30
    box = box_of("Stand-in 8", "1.0")
    kept = read_calibration(box)
    assert kept is not None
    assert (kept.context, kept.runs) == (1 << 30, 1)
    assert kept.unused is None, "one batch says nothing about blocks that fit badly"
    # at the end of the training the whole run's own figures take the place of the proof's
    monkeypatch.setattr(proof, "on_card", lambda: OnCard("Stand-in 8", "1.0", 9 << 30, []))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 6 << 30)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 7 << 30)
    trainer.state.global_step = 6
    callback.on_train_end(trainer.args, trainer.state, trainer.control)
    kept = read_calibration(box)
    assert kept is not None
    assert (kept.context, kept.unused, kept.runs) == (2 << 30, pytest.approx(1 / 6), 1)
    journal.close()


@pytest.mark.parametrize("accumulation", [1, 2])
def test_each_phase_finds_in_memory_what_a_later_step_would(
    tiny_model: Path, workspace: Path, accumulation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The optimizer's states from its step on; in forward and backward the gradients of earlier micro-batches, in the evaluation none."""
    from tuitune.trainer import proof

    built, _ = build(workspace, recipe(tiny_model, training=EVALUATES.replace("steps: 2", f"steps: {accumulation}")) + PROVE)
    trainer, seen = built.trainer, []
    trainer.create_optimizer_and_scheduler(6)

    class Look(Counted):
        def read(self) -> Any:
            gradients = sum(weight.grad is not None for weight in trainer.model.parameters())
            seen.append((subject.phase, bool(gradients), bool(trainer.optimizer.state), trainer.model.training))
            return super().read()

    monkeypatch.setattr(proof, "Gauge", Look)
    monkeypatch.setattr(proof, "_memory", lambda: (8 << 30, 8 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 7 << 30)
    from tuitune.trainer.telemetry import Telemetry

    journal = Journal(workspace / "trainer-1.jsonl")
    subject = proof.Proof(built, Telemetry(journal, Link({})), trainer.get_train_dataloader())
    subject.prove()
    journal.close()
    earlier = accumulation > 1
    assert seen[:3] == [("load", False, False, True), ("optimizer step", False, True, True), ("forward", earlier, True, True)]
    assert seen[3:] == [("backward", True, True, True), ("evaluation", False, True, True), ("evaluation", False, True, False)]
