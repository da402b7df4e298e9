"""The proof before step 1 on real trainers: which batch it takes, that it leaves no trace, and what it tells."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_control import PAIR_COLUMNS, PAIRS, Link, build, recipe
from tests.contract.test_training import NF4
from tests.support.runs import new_run, start_trainer
from tests.support.runs import train as train_process
from tests.support.tiny_model import write_rows
from tuitune.bus.journal import Journal, JournalTail
from tuitune.trainer.stop import StopNow, StopRequest

torch = pytest.importorskip("torch")

PROVE = "launch: {gpus: cpu, proof: true}\n"
EVALUATES = ", eval_strategy: steps, eval_steps: 3, gradient_accumulation_steps: 2"
COLUMNS = {
    "sft": "{user: question, assistant: answer}",
    "dpo": PAIR_COLUMNS,
    "reward": PAIR_COLUMNS,
    "kto": "{prompt: q, completion: good, label: right}",
}
UNTIMED = ("t", "n", "tokens_per_second", "step_ms", "mem", "parts")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_rows(tmp_path / "train.jsonl")
    return tmp_path


def write_pairs(folder: Path) -> None:
    rows = [{**row, "right": number % 2 == 0, "good": row["good"] + " one two" * (number % 5)} for number, row in enumerate(PAIRS)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


class Trained:
    """What a training has left: its records, every weight and state of the optimizer, the batches it saw, the next random numbers."""

    def __init__(self, folder: Path, text: str) -> None:
        from tuitune.trainer.orders import Orders
        from tuitune.trainer.proof import ProofCallback
        from tuitune.trainer.telemetry import Telemetry, TelemetryCallback

        built, run = build(folder, text)
        journal, self.stop = Journal(run.journal / "trainer-1.jsonl"), StopRequest()
        trainer = built.trainer
        telemetry = Telemetry(journal, Link({}))
        self.before_training(built, telemetry)
        self.batches: list[list[int]] = []
        seen = trainer.get_batch_samples

        def watch(*args: Any, **kwargs: Any) -> Any:
            found = seen(*args, **kwargs)
            self.batches += [batch["input_ids"].flatten().tolist() for batch in found[0]]
            return found

        trainer.get_batch_samples = watch
        trainer.add_callback(ProofCallback(built, telemetry, self.stop, run.name))
        trainer.steer(telemetry, self.stop, Orders(telemetry.link))
        trainer.add_callback(TelemetryCallback(telemetry))
        self.trainer = trainer
        trainer.train()
        journal.close()
        self.records = JournalTail(run.journal).poll()
        self.weights = {name: weight.detach().clone() for name, weight in trainer.model.state_dict().items() if torch.is_tensor(weight)}
        self.states = trainer.optimizer.state_dict()["state"]
        self.dice = (random.random(), torch.rand(1).item())

    def before_training(self, built: Any, telemetry: Any) -> None:
        """For what else is done with a trainer that is built."""

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [{key: value for key, value in one.items() if key not in UNTIMED} for one in self.records if one["ev"] == kind]

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        return [
            {key: value for key, value in one["metrics"].items() if "second" not in key and "runtime" not in key} for one in self.of("eval")
        ]


def same_tensors(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_tensors(one[key], other[key]) for key in one)
    return bool(torch.equal(one, other)) if torch.is_tensor(one) else one == other


@pytest.mark.parametrize(
    ("task", "change"),
    [
        ("sft", ""),
        ("sft", ", packing: true"),
        ("sft", ", optim: adamw_8bit"),
        ("sft", ", optim: sgd, weight_decay: 0.1, label_smoothing_factor: 0.1"),
        ("sft", "full"),
        ("sft", "nf4"),
        ("dpo", ""),
        ("reward", ""),
        ("kto", ""),
    ],
)
def test_a_run_with_the_proof_is_to_the_bit_the_run_without_it(tiny_model: Path, workspace: Path, task: str, change: str) -> None:
    """Losses with dropout, evaluations, the weights at the end, the optimizer's states, the batches and the random numbers after it."""
    if task != "sft":
        write_pairs(workspace)
    text = recipe(tiny_model, task, COLUMNS[task], training=EVALUATES + (change if change.startswith(",") else ""))
    if change == "full":
        text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("peft:"))
    if change == "nf4":
        text = text.replace("dtype: float32", "dtype: bfloat16") + NF4
    plain = Trained(workspace, text + "launch: {gpus: cpu}\n")
    proven = Trained(workspace, text + PROVE)
    assert not plain.of("proof")
    assert len(proven.of("proof")) == 1
    assert proven.of("metrics") == plain.of("metrics")
    assert len(plain.of("metrics")) == 6
    assert proven.evaluations == plain.evaluations
    assert len(plain.evaluations) == 2
    assert proven.batches == plain.batches
    assert same_tensors(proven.weights, plain.weights)
    assert same_tensors(proven.states, plain.states)
    assert proven.dice == plain.dice


def test_everything_that_a_step_changes_is_put_back(tiny_model: Path, workspace: Path) -> None:
    """Before step 1: also what no loss would show."""
    from tuitune.trainer.traceless import stepped, without_trace, zero_gradients

    trainer = build(workspace, recipe(tiny_model, training=EVALUATES) + PROVE)[0].trainer
    trainer.create_optimizer_and_scheduler(6)
    model = trainer.model
    modes = [module.training for module in model.modules()]
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    groups = [{key: value for key, value in group.items() if key != "params"} for group in trainer.optimizer.param_groups]
    buffer = next(module for module in model.modules() if "inv_freq" in module._buffers)
    frequencies, kept = buffer._buffers["inv_freq"], buffer._buffers["inv_freq"].clone()
    with without_trace(trainer):
        zero_gradients(trainer.optimizer)
        with stepped(trainer.optimizer):
            assert trainer.optimizer.state, "the step has made its states"
            model.eval()
            frequencies.mul_(2)
            buffer.register_buffer("inv_freq", kept * 3)
            trainer.current_gradient_accumulation_steps = 7
            trainer._metrics["train"]["loss"].append(1.0)
            next(model.parameters()).grad = torch.ones_like(next(model.parameters()))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(weight, weights[name]) and weight.grad is None for name, weight in model.named_parameters())
    assert not trainer.optimizer.state
    assert [{key: value for key, value in group.items() if key != "params"} for group in trainer.optimizer.param_groups] == groups
    assert buffer._buffers["inv_freq"] is frequencies
    assert torch.equal(frequencies, kept)
    assert not trainer._metrics["train"]
    assert getattr(trainer, "current_gradient_accumulation_steps", None) != 7


@pytest.mark.parametrize(
    ("optim", "why"),
    [
        ("adamw_torch", None),
        ("adamw_torch_fused", None),
        ("adamw_8bit", None),
        ("paged_adamw_8bit", "managed memory"),
        ("adafactor", "transformers"),
    ],
)
def test_only_an_optimizer_whose_step_can_be_undone_is_stepped(tiny_model: Path, workspace: Path, optim: str, why: str | None) -> None:
    from tuitune.trainer.traceless import why_not_stepped

    trainer = build(workspace, recipe(tiny_model, training=f", optim: {optim}") + PROVE)[0].trainer
    trainer.create_optimizer_and_scheduler(6)
    found = why_not_stepped(trainer.optimizer)
    assert found is None if why is None else why in str(found)
    if why is None:
        weight = next(weight for weight in trainer.model.parameters() if weight.requires_grad)
        weight.grad = torch.ones_like(weight)
        trainer.optimizer.step()
        assert "loaded already" in str(why_not_stepped(trainer.optimizer))


def test_the_record_says_which_batch_it_was_and_that_a_cpu_measures_nothing(tiny_model: Path, workspace: Path) -> None:
    done = Trained(workspace, recipe(tiny_model, training=EVALUATES) + PROVE)
    (proof,) = done.of("proof")
    lengths = sorted((len(ids) for ids in done.trainer.train_dataset["input_ids"]), reverse=True)
    assert (proof["step"], proof["batch"]["rows"], proof["batch"]["length"]) == (0, 2, lengths[0])
    assert proof["batch"]["tokens"] == 2 * lengths[0]
    assert proof["eval_batch"]["length"] == max(len(ids) for ids in done.trainer.eval_dataset["input_ids"])
    assert [one["phase"] for one in proof["phases"]] == ["load", "optimizer step", "forward", "backward", "evaluation"]
    assert all(one["measured"] is one["planned"] is one["difference"] is None for one in proof["phases"])
    assert proof["measured"] == "on the CPU torch counts no memory"
    assert proof["plan"] == "the plan is about GPU memory"
    assert "undone" in proof["optimizer"]
    assert proof["seconds"] > 0


def test_it_is_told_while_it_runs_and_is_no_training_time(tiny_model: Path, workspace: Path) -> None:
    done = Trained(workspace, recipe(tiny_model) + PROVE)
    told = [one for one in done.records if one["ev"] in ("state", "proof", "metrics")]
    assert told[0]["why"].startswith("proving the longest batch: 2 rows of ")
    assert [one["ev"] for one in told[:4]] == ["state", "proof", "state", "metrics"]
    assert (told[0]["s"], told[2]["s"]) == ("loading", "running")


@pytest.mark.parametrize("padded", [True, False])
def test_the_longest_rows_are_those_with_the_longest_sequence_or_with_the_most_tokens(padded: bool) -> None:
    import datasets

    from tuitune.trainer.longest import longest_rows

    rows = datasets.Dataset.from_dict(
        {
            "prompt_ids": [[1], [1, 1], [1], [1]],
            "chosen_ids": [[2] * 3, [2] * 4, [2] * 9, [2]],
            "rejected_ids": [[3] * 3, [3] * 6, [3], [3]],
        }
    )
    assert longest_rows(rows, 3, padded=padded) == ([2, 1, 0] if padded else [1, 2, 0])
    assert longest_rows(rows, 9, padded=padded) == ([2, 1, 0, 3] if padded else [1, 2, 0, 3]), "there are not more"
    assert longest_rows(rows.select_columns(["prompt_ids"]), 3, padded=padded) is None


def test_joined_rows_are_taken_by_their_tokens(tiny_model: Path, workspace: Path) -> None:
    (proof,) = Trained(workspace, recipe(tiny_model, training=", packing: true") + PROVE).of("proof")
    assert proof["batch"]["tokens"] == 2 * 64, "two rows packed to max_length"
    assert proof["batch"]["length"] == 64


def test_a_stop_while_it_proves_ends_the_run_at_once(tiny_model: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal's own handler raises StopNow as long as the training has not begun."""
    import signal

    from tuitune.trainer.proof import Proof

    monkeypatch.setattr(Proof, "_train_step", lambda *args: StopRequest._on_signal(stop, signal.SIGTERM, None))
    stop = StopRequest()
    with pytest.raises(StopNow):
        Trained(workspace, recipe(tiny_model) + PROVE)
    assert (stop.asked, stop.begun) == (True, False)


def test_the_trainer_process_proves_and_begins(tiny_model: Path, workspace: Path) -> None:
    done = train_process(workspace, recipe(tiny_model, training=EVALUATES) + PROVE)
    assert done.returncode == 0, done.output
    assert len(done.of("proof")) == 1
    assert len(done.losses) == 6


def test_a_signal_while_the_process_proves_is_a_run_that_was_stopped_before_its_first_step(tiny_model: Path, workspace: Path) -> None:
    import signal
    import time

    run = new_run(workspace, recipe(tiny_model).replace("max_steps: 6", "max_steps: 5000") + PROVE)
    process, tail, seen = start_trainer(run), JournalTail(run.journal), []
    deadline = time.monotonic() + 120
    while not any("proving" in str(one.get("why")) for one in seen) and time.monotonic() < deadline:
        seen += tail.poll()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    end = [one for one in JournalTail(run.journal).poll() if one["ev"] == "end"][-1]
    assert end["reason"] == "stopped"


def test_on_a_cpu_it_runs_only_when_the_recipe_asks(tiny_model: Path, workspace: Path) -> None:
    from tuitune.recipe.ledger import read_ledger

    done = train_process(workspace, recipe(tiny_model) + "launch: {gpus: cpu}\n")
    assert done.returncode == 0, done.output
    assert not done.of("proof")
    entry = next(one for one in read_ledger(done.run.effective) if one.key == "proof")
    assert (entry.value, entry.source) == (False, "default")
