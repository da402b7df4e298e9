"""`launch.measure_split` on real trainers: what it takes, that it leaves no trace, that neither time nor memory can hurt the run."""

import gc
import weakref
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_control import PAIR_COLUMNS, Link
from tests.contract.test_proof import Trained, same_tensors, write_pairs
from tests.support.out_of_memory import SmallCard
from tests.support.runs import start_trainer
from tests.support.runs import train as train_process
from tests.support.tiny_model import write_rows
from tuitune.bus.journal import Journal
from tuitune.recipe.ledger import read_ledger
from tuitune.recipe.update_rows import ACCUMULATION, BATCH, KEY, MEASURE
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import read_manifest, write_manifest
from tuitune.trainer.box import FillIn
from tuitune.update_split import AGAIN, AGAIN_KWARGS

torch = pytest.importorskip("torch")

LORA = "peft: {r: 8, lora_alpha: 16, lora_dropout: 0.1, target_modules: all-linear}\n"
SFT = "{user: question, assistant: answer}"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_rows(tmp_path / "train.jsonl")
    return tmp_path


def recipe(model: Path, training: str, task: str = "sft", columns: str = SFT, adapter: str = LORA, launch: str = "") -> str:
    return (
        f"task: {task}\nmodel: {{name_or_path: {model}, dtype: float32}}\n{adapter}"
        f"dataset:\n  train: [{{path: train.jsonl, columns: {columns}}}]\n"
        f"  eval: [{{path: train.jsonl, columns: {columns}, max_rows: 4}}]\n"
        f"launch: {{gpus: cpu{launch}}}\n"
        "training: {max_steps: 6, learning_rate: 1.0e-2, logging_steps: 1, max_length: 64, save_strategy: 'no', eval_strategy: steps, "
        f"eval_steps: 3, {training}}}\n"
    )


def split(batch: int, accumulation: int, again: int | None = None) -> dict[str, FillIn]:
    """again: every so manieth layer is computed again, 0 none; None: the recipe says it."""
    found = {BATCH: FillIn(batch, "so planned"), ACCUMULATION: FillIn(accumulation, "so planned")}
    if again is not None:
        found[AGAIN] = FillIn(bool(again), "so planned")
    if again and again > 1:
        found[AGAIN_KWARGS] = FillIn({"use_reentrant": False, "every_n_layers": again}, "so planned")
    return found


def as_written(values: Mapping[str, FillIn]) -> str:
    words = {BATCH: values[BATCH].value, ACCUMULATION: values[ACCUMULATION].value}
    text = ", ".join(f"{key}: {value}" for key, value in words.items())
    if AGAIN in values:
        text += f", {AGAIN}: {'true' if values[AGAIN].value else 'false'}"
    if AGAIN_KWARGS in values:
        text += f", {AGAIN_KWARGS}: {{use_reentrant: false, every_n_layers: {values[AGAIN_KWARGS].value['every_n_layers']}}}"
    return text


class Watch:
    """A clock that goes on with every micro-batch by what `costs` says of (rows of it, whether layers are computed again), in seconds."""

    def __init__(self, trainer: Any, costs: Mapping[tuple[int, bool], float]) -> None:
        self.now, self.rows, self.costs = 0.0, list[int](), costs
        self.inputs: list[list[int]] = []
        self.room = 10**9
        inner = trainer.training_step

        def step(model: Any, inputs: Any, *args: Any) -> Any:
            again = any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
            rows = trainer.args.per_device_train_batch_size
            self.inputs.append(inputs["input_ids"].flatten().tolist())
            self.now += self.costs[rows, again]
            self.rows.append(rows)
            return inner(model, inputs, *args)

        trainer.training_step = step

    def __call__(self) -> float:
        return self.now


class Measured(Trained):
    """A training whose split was measured before it: of a trainer that was built with the first of `splits`."""

    def __init__(
        self, folder: Path, text: str, splits: list[dict[str, FillIn]], costs: Mapping[tuple[int, bool], float], **more: Any
    ) -> None:
        self.splits, self.costs, self.more = splits, costs, more
        super().__init__(folder, text)

    def before_training(self, built: Any, telemetry: Any) -> None:
        from tuitune.trainer.measured_split import measure_split

        built.recipe.launch.update({KEY: 8, MEASURE: True})  # which would have written the first split into the recipe
        for key, fill in self.splits[0].items():
            built.filled["training", key] = fill
        trainer, card = built.trainer, None
        if "room" in self.more:
            card = SmallCard(trainer.model, self.more["room"], self.more["where"])
        self.watch = Watch(trainer, self.costs)
        measure_split(built, self.splits, telemetry, planned=True, clock=self.watch)
        del trainer.training_step
        if card is not None:
            card.room = 10**9  # somebody else's memory, who has gone
        self.built, self.measured_in = built, self.watch.now
        self.shape = trainer.args.per_device_train_batch_size, trainer.args.gradient_accumulation_steps


def same(measured: Trained, written: Trained) -> bool:
    """Losses, gradient norms, evaluations, weights, optimizer's states, batches and random numbers."""
    assert measured.of("metrics") == written.of("metrics")
    assert len(written.of("metrics")) == 6
    assert measured.evaluations == written.evaluations
    assert measured.batches == written.batches
    assert same_tensors(measured.weights, written.weights)
    assert same_tensors(measured.states, written.states)
    return measured.dice == written.dice


WHOLE = split(8, 1, 0)
PLAIN = [WHOLE, split(4, 2, 0), split(2, 4, 0)]
CHEAP_FOUR = {(8, False): 8.0, (4, False): 1.0, (2, False): 4.0}


@pytest.mark.parametrize("kind", ["LoRA", "full", "bf16", "joined", "dpo", "reward", "recomputed by default"])
def test_a_run_is_to_the_bit_the_one_that_was_written_with_the_split(tiny_model: Path, workspace: Path, kind: str) -> None:
    """With dropout, so that a random number drawn too much would show."""
    task = kind if kind in ("dpo", "reward") else "sft"
    more = {"bf16": ", bf16: true", "joined": ", padding_free: auto"}
    again = None if kind == "recomputed by default" else 0  # TRL's default, where neither recipe nor tuitune says it
    if task != "sft":
        write_pairs(workspace)
    shared = {"task": task, "columns": SFT if task == "sft" else PAIR_COLUMNS, "adapter": "" if kind == "full" else LORA}
    splits = [split(8, 1, again), split(4, 2, again), split(2, 4, again)]
    planned, taken = (recipe(tiny_model, as_written(one) + more.get(kind, ""), **shared) for one in splits[:2])
    costs = {(rows, again is None): seconds for (rows, _), seconds in CHEAP_FOUR.items()}
    measured = Measured(workspace, planned, splits, costs)
    assert measured.shape == (4, 2)
    assert same(measured, Trained(workspace, taken))


@pytest.mark.parametrize(
    ("planned", "other"),
    [
        (split(8, 1, 1), split(4, 2, 0)),
        (split(8, 1, 0), split(4, 2, 1)),
        (split(8, 1, 2), split(4, 2, 0)),
        (split(8, 1, 0), split(4, 2, 2)),
    ],
    ids=["on to off", "off to on", "every second to off", "off to every second"],
)
def test_recomputation_is_switched_as_if_it_had_been_written(
    tiny_model: Path, workspace: Path, planned: dict[str, FillIn], other: dict[str, FillIn]
) -> None:
    costs = {(8, bool(planned[AGAIN].value)): 8.0, (4, bool(other[AGAIN].value)): 1.0}
    measured = Measured(workspace, recipe(tiny_model, as_written(planned)), [planned, other], costs)
    written = Trained(workspace, recipe(tiny_model, as_written(other)))
    assert measured.shape == (4, 2)
    assert same(measured, written)
    hooks = [len(trained.trainer.model.get_input_embeddings()._forward_hooks) for trained in (measured, written)]
    assert bool(hooks[0]) == bool(hooks[1]), "gradients of the inputs are asked for where TRL would have"
    for name in ("activation_checkpointing", "activation_checkpointing_kwargs", "gradient_checkpointing", "gradient_checkpointing_kwargs"):
        assert getattr(measured.trainer.args, name, None) == getattr(written.trainer.args, name, None)


def test_nothing_of_it_is_left_in_the_trainer(tiny_model: Path, workspace: Path) -> None:
    """Where the plan's choice stays: also what no loss would show."""
    from tests.contract.test_control import build
    from tuitune.trainer.measured_split import measure_split
    from tuitune.trainer.telemetry import Telemetry

    built, run = build(workspace, recipe(tiny_model, as_written(WHOLE) + ", bf16: true"))
    trainer, model = built.trainer, built.trainer.model
    before = dict(vars(trainer.args)), vars(model).keys(), [module.training for module in model.modules()]
    counted = trainer._total_train_tokens, dict(trainer._metrics["train"]), asdict(trainer.state)
    dice = torch.get_rng_state()
    measure_split(
        built,
        PLAIN,
        Telemetry(Journal(run.journal / "trainer-1.jsonl"), Link({})),
        planned=True,
        clock=Watch(trainer, CHEAP_FOUR | {(8, False): 0.5}),
    )
    assert (dict(vars(trainer.args)), vars(model).keys(), [module.training for module in model.modules()]) == before
    assert (trainer._total_train_tokens, dict(trainer._metrics["train"]), asdict(trainer.state)) == counted
    assert torch.equal(torch.get_rng_state(), dice)
    assert all(weight.grad is None for weight in model.parameters())
    assert not trainer.accelerator._models
    assert trainer.optimizer is None
    assert (trainer._train_batch_size, trainer.args.per_device_train_batch_size) == (8, 8)


def test_all_splits_are_measured_on_the_rows_that_the_run_begins_with(tiny_model: Path, workspace: Path) -> None:
    quick = {each: seconds / 100 for each, seconds in CHEAP_FOUR.items()}
    measured = Measured(workspace, recipe(tiny_model, as_written(WHOLE) + ", padding_free: auto"), PLAIN, quick)
    first = [token for batch in measured.batches[:2] for token in batch]  # of the run, 4 rows each
    watch = measured.watch
    whole = watch.inputs[watch.rows.index(8)]
    assert whole == first
    halves = [inputs for rows, inputs in zip(watch.rows, watch.inputs) if rows == 4]
    assert halves[1] + halves[2] == first, "after the one that warms up"


def test_ledger_and_journal_say_what_was_measured_and_why(tiny_model: Path, workspace: Path) -> None:
    from tuitune.trainer.effective import ledger

    measured = Measured(workspace, recipe(tiny_model, as_written(WHOLE)), PLAIN, CHEAP_FOUR)
    said = [one["why"] for one in measured.of("state") if one["why"] and "measuring" in one["why"]]
    assert said[:3] == ["measuring 1 of 3: 1 × 8 rows", "measuring 2 of 3: 2 × 4 rows", "measuring 3 of 3: 4 × 2 rows"]
    assert said[3:] == ["measuring once more: 1 × 8 rows", "measuring once more: 2 × 4 rows"]
    (told,) = measured.of("split")
    assert told["chosen"] == 1
    assert [one["seconds"] for one in told["candidates"]] == [8.0, 2.0, None]
    assert told["candidates"][2]["why"] == "cut off after 8 s", "three times the best's 2 s are over with its second micro-batch of 4 s"
    entries = {(entry.section, entry.key): entry for entry in ledger(measured.built)}
    chosen = entries["training", BATCH]
    assert (chosen.value, chosen.source) == (4, "adjusted")
    assert chosen.why == (
        "measured: 2 s an update in 2 × 4 rows; 1 × 8 rows 8 s, 4 × 2 rows cut off after 8 s; the plan's choice was 1 × 8 rows"
    )
    assert entries["training", ACCUMULATION].value == 2
    assert "2 of 3 splits were measured" in str(entries["launch", MEASURE].why)
    assert measured.built.recipe.training[BATCH] == 4, "what later plans of the run read"


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_split_that_runs_out_of_memory_is_dropped_and_the_run_goes_on_as_planned(tiny_model: Path, workspace: Path, where: str) -> None:
    """Somebody else's memory: the plan says that it fits."""
    splits = [split(2, 4, 0), WHOLE]
    text = recipe(tiny_model, as_written(splits[0]))
    measured = Measured(workspace, text, splits, {(2, False): 1.0, (8, False): 0.1}, room=200, where=where)
    assert measured.shape == (2, 4)
    (told,) = measured.of("split")
    assert (told["candidates"][1]["seconds"], told["candidates"][1]["why"]) == (None, "out of memory")
    assert same(measured, Trained(workspace, text))


def test_what_ran_out_of_memory_is_gone_before_anything_else_is_tried(
    tiny_model: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what the error's frames hold."""
    from tuitune.trainer import measured_split

    refused, alive = list[Any](), list[bool]()
    look = SmallCard._look

    def remember(self: SmallCard, states: Any) -> None:
        if states.shape[0] * states.shape[1] > self.room:
            refused.append(weakref.ref(states))
        look(self, states)

    def free() -> None:
        gc.collect()
        alive.extend(one() is not None for one in refused)

    monkeypatch.setattr(SmallCard, "_look", remember)
    monkeypatch.setattr(measured_split, "free", free)
    costs = {(2, False): 1.0, (8, False): 0.1}
    Measured(workspace, recipe(tiny_model, as_written(split(2, 4, 0))), [split(2, 4, 0), WHOLE], costs, room=200, where="forward")
    assert refused
    assert not any(alive)


def test_where_the_plans_choice_runs_out_of_memory_the_fastest_of_the_others_is_taken(tiny_model: Path, workspace: Path) -> None:
    costs = {(8, False): 1.0, (4, False): 5.0, (2, False): 1.0}
    measured = Measured(workspace, recipe(tiny_model, as_written(WHOLE)), PLAIN, costs, room=200, where="forward")
    assert measured.shape == (2, 4)


@pytest.mark.parametrize(
    ("costs", "shape"),
    [
        ({(8, False): 1.0, (4, False): 0.49, (2, False): 9.0}, (8, 1)),  # 2 % faster is chance
        ({(8, False): 25.0, (4, False): 1.0, (2, False): 1.0}, (4, 2)),  # once is enough
        ({(8, False): 40.0, (4, False): 0.1, (2, False): 0.1}, (8, 1)),  # the planned one cannot be measured within the time
    ],
)
def test_a_minute_is_the_most_it_takes(
    tiny_model: Path, workspace: Path, costs: dict[tuple[int, bool], float], shape: tuple[int, int]
) -> None:
    """By a clock that counts micro-batches."""
    measured = Measured(workspace, recipe(tiny_model, as_written(WHOLE)), PLAIN, costs)
    assert measured.shape == shape
    assert measured.measured_in <= 60


def test_what_was_faster_only_while_the_box_was_busy_is_not_taken(tiny_model: Path, workspace: Path) -> None:
    """The plan's choice is measured once more before another takes its place."""

    class Busy(dict[tuple[int, bool], float]):
        def __getitem__(self, key: tuple[int, bool]) -> float:
            self.seen = getattr(self, "seen", 0) + (key == (8, False))
            return 5.0 if key == (8, False) and self.seen <= 3 else 1.0

    measured = Measured(workspace, recipe(tiny_model, as_written(WHOLE)), PLAIN[:2], Busy())
    (told,) = measured.of("split")
    assert [one["seconds"] for one in told["candidates"]] == [1.0, 2.0]
    assert measured.shape == (8, 1)


def test_on_the_cpu_only_what_takes_half_of_the_free_ram_with_the_longest_rows_is_tried(
    tiny_model: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuitune.trainer import measured_split

    monkeypatch.setattr(measured_split.Rise, "__exit__", lambda self, *_: setattr(self, "bytes", 200 << 20))
    monkeypatch.setattr(measured_split.Rise, "__enter__", lambda self: self)
    monkeypatch.setattr(measured_split, "free_memory", lambda: 1 << 30)
    measured = Measured(workspace, recipe(tiny_model, as_written(WHOLE)), PLAIN, {(8, False): 0.1, (4, False): 1.0, (2, False): 1.0})
    (told,) = measured.of("split")
    assert "of the RAM that is free" in told["candidates"][0]["why"]
    assert 8 not in measured.watch.rows
    assert measured.shape[0] < 8


def test_what_cannot_be_measured_is_said(tiny_model: Path, workspace: Path) -> None:
    from tests.contract.test_control import build
    from tuitune.trainer.measured_split import measure_split
    from tuitune.trainer.telemetry import Telemetry

    built, run = build(workspace, recipe(tiny_model, as_written(WHOLE)))
    telemetry = Telemetry(Journal(run.journal / "trainer-1.jsonl"), Link({}))
    for change, splits, why in (
        ({}, PLAIN[:1], "there is only one split that fits"),
        ({"box": replace(built.box, cuda=True, name="H200")}, PLAIN, "the memory of H200 is not known, so nobody can say what fits"),
    ):
        vars(built).update(change)
        measure_split(built, splits, telemetry, planned=False)
        assert built.filled["launch", MEASURE].why == f"not measured: {why}"
    assert built.trainer.args.per_device_train_batch_size == 8


def test_a_whole_run_measures_once_and_keeps_its_split(tiny_model: Path, workspace: Path) -> None:
    """The whole way with the real clock. Started again it takes what its ledger says, and its losses are the same."""
    text = recipe(tiny_model, "logging_first_step: true", launch=", rows_per_update: 8, measure_split: true")
    done = train_process(workspace, text)
    assert done.returncode == 0, done.output
    (told,) = done.of("split")
    taken = told["candidates"][told["chosen"]]
    assert (told["candidates"][0]["rows"], len(told["candidates"])) == (8, 4)
    assert told["seconds"] < 60
    assert split_in_ledger(done.run) == (taken["rows"], taken["micro_batches"])
    (hello,) = done.of("hello")
    assert next(cap for cap in hello["caps"] if cap["name"] == "reshape")[BATCH] == taken["rows"]
    manifest = read_manifest(done.run)
    write_manifest(done.run, replace(manifest, attempt=manifest.attempt + 1))
    output, _ = (process := start_trainer(done.run)).communicate(timeout=170)
    assert process.returncode == 0, output
    assert len(done.of("split")) == 1
    assert split_in_ledger(done.run) == (taken["rows"], taken["micro_batches"])
    assert done.losses[6:] == done.losses[:6]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_the_splits_that_the_plan_says_fit_are_measured(tiny_model: Path, workspace: Path) -> None:
    """The losses are those of the run that is written with the split, as far as the kernels give the same twice."""
    text = recipe(tiny_model, "bf16: true", launch=", rows_per_update: 8, measure_split: true").replace("gpus: cpu", "gpus: auto")
    done = train_process(workspace, text)
    assert done.returncode == 0, done.output
    (told,) = done.of("split")
    assert told["seconds"] < 60
    assert all(one["seconds"] or "cut off" in one["why"] for one in told["candidates"])
    taken = told["candidates"][told["chosen"]]
    written = as_written(split(taken["rows"], taken["micro_batches"], taken["recomputed"]))
    by_hand = train_process(workspace, recipe(tiny_model, "bf16: true, " + written).replace("gpus: cpu", "gpus: auto"))
    assert done.losses == pytest.approx(by_hand.losses, abs=1e-3)
    measured, plain = (trained.of("metrics")[-1]["mem"]["peak_alloc"] for trained in (done, by_hand))
    assert measured == pytest.approx(plain, rel=0.02), "what was measured is not in the run's peak"


def split_in_ledger(run: RunDirectory) -> tuple[Any, Any]:
    values = {entry.key: entry.value for entry in read_ledger(run.effective) if entry.section == "training"}
    return values[BATCH], values[ACCUMULATION]
