"""A real trainer that is watched: answers and alarms in its journal, memory that runs out and ends nothing, no checkpoint after a NaN."""

from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_control import Link, build, losses, recipe
from tests.support.tiny_model import write_rows
from tuitune.bus.journal import Journal, JournalTail
from tuitune.trainer.stop import StopRequest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PROMPTS = 'watch: {prompts: ["the cat", "the old town"], every: 2, max_new_tokens: 5}\n'


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_rows(tmp_path / "train.jsonl")
    return tmp_path


def train(
    folder: Path, text: str, before: Any = None, watched: bool = True, planned: dict[int, list[dict[str, Any]]] | None = None
) -> tuple[list[dict[str, Any]], StopRequest]:
    """Train as `python -m tuitune.trainer` does; the journal's records. `before`: called with the trainer; `planned`: as for Link."""
    from tuitune.trainer.orders import Orders
    from tuitune.trainer.telemetry import Telemetry, TelemetryCallback
    from tuitune.trainer.watch import Watch

    torch.set_num_threads(1)
    built, run = build(folder, text + "launch: {gpus: cpu}\n")
    trainer, stop, journal = built.trainer, StopRequest(), Journal(run.journal / "trainer-1.jsonl")
    link = Link(planned or {})
    trainer.steer(Telemetry(journal, link), stop, Orders(link))
    trainer.add_callback(TelemetryCallback(trainer.telemetry))
    if watched:
        trainer.watch = Watch(built, run, trainer.telemetry)
        trainer.add_callback(trainer.watch)
    if before is not None:
        before(trainer)
    trainer.train()
    journal.close()
    return JournalTail(run.journal).poll(), stop


def of(records: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [record for record in records if record["ev"] == event]


def test_a_watched_run_has_the_losses_of_one_that_is_not_watched(tiny_model: Path, workspace: Path) -> None:
    """With dropout and answers in between."""
    plain, _ = train(workspace, recipe(tiny_model), watched=False)
    watched, _ = train(workspace, recipe(tiny_model) + PROMPTS)
    assert losses(watched) == losses(plain)
    assert len(losses(plain)) == 6
    assert [(one["step"], one["prompt"], one["base"] is None) for one in of(watched, "sample")] == [
        (step, prompt, step > 2) for step in (2, 4, 6) for prompt in ("the cat", "the old town")
    ]
    assert not of(watched, "alarm")
    assert not of(watched, "oom")


def test_answers_are_no_training_time(tiny_model: Path, workspace: Path) -> None:
    records, _ = train(workspace, recipe(tiny_model) + PROMPTS)
    told = [record["s"] if record["ev"] == "state" else record["ev"] for record in records if record["ev"] in ("state", "sample")]
    assert told == ["running", *["evaluating", "sample", "sample", "running"] * 3]


PROBE = "watch: {forgetting_probe: builtin, every: 3}\n"


def test_the_probe_is_measured_before_the_first_step_and_leaves_no_trace(tiny_model: Path, workspace: Path) -> None:
    plain, _ = train(workspace, recipe(tiny_model), watched=False)
    probed, _ = train(workspace, recipe(tiny_model) + PROBE)
    assert losses(probed) == losses(plain)
    told = of(probed, "probe")
    assert [one["step"] for one in told] == [0, 3, 6]
    assert len(told[0]["metrics"]) == 8
    assert told[0]["metrics"]["forgetting/code"] != told[2]["metrics"]["forgetting/code"]


class Shake(transformers.TrainerCallback):  # type: ignore[misc]
    """Makes another model of it before the third step."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2:
            for name, weight in self.trainer.model.named_parameters():
                if name.endswith("model.norm.weight"):
                    weight.data.mul_(30)  # sure of the wrong words


def test_a_model_that_knows_less_than_before_raises_the_alarm(tiny_model: Path, workspace: Path) -> None:
    records, _ = train(workspace, recipe(tiny_model) + PROBE, lambda trainer: trainer.add_callback(Shake(trainer)))
    (alarm,) = (alarm for alarm in of(records, "alarm") if alarm["kind"] == "forgetting")
    assert alarm["step"] == 3
    assert alarm["text"].startswith("the model forgets (nats a token, before → now): ")


def test_the_loss_of_a_text_is_that_of_the_model_on_it_alone(tiny_model: Path, workspace: Path) -> None:
    from tuitune.trainer.sampling import text_losses

    trainer = build(workspace, recipe(tiny_model) + "launch: {gpus: cpu}\n")[0].trainer
    texts = ["the cat sat on a mat", "one two", "x", "the old town by the sea " * 9]
    found = text_losses(trainer, texts, 20, 3)
    model = trainer.model.eval()
    for text, (loss, tokens) in zip(texts, found, strict=True):
        ids = torch.tensor([trainer.processing_class(text)["input_ids"][:20]])
        assert tokens == ids.shape[1] - 1
        with torch.no_grad():
            alone = model.get_base_model().forward(input_ids=ids, labels=ids).loss if tokens else torch.tensor(0.0)
        assert loss == pytest.approx(alone.item() * tokens, rel=1e-4, abs=1e-4)


def test_a_judge_is_not_asked_and_says_so_once(tiny_model: Path, workspace: Path) -> None:
    import json

    from tests.contract.test_control import PAIR_COLUMNS, PAIRS

    (workspace / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    records, _ = train(workspace, recipe(tiny_model, "reward", PAIR_COLUMNS) + PROMPTS)
    assert [one["text"] for one in of(records, "warning")] == ["watch.prompts: a reward model judges answers and writes none"]
    assert len(losses(records)) == 6


def test_memory_that_runs_out_is_told_and_costs_no_step(tiny_model: Path, workspace: Path) -> None:
    from tests.support.out_of_memory import SmallCard

    records, _ = train(workspace, recipe(tiny_model), lambda trainer: SmallCard(trainer.model, 50, "backward"))
    assert len(losses(records)) == 6
    first = of(records, "oom")[0]
    assert (first["retry"], first["phase"], first["micro"]) == ("2 × 1 row", "backward", 1)


def test_what_an_order_or_a_pause_takes_is_no_slow_step(tiny_model: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty steps of a second; ten minutes of pause after the twentieth. A step that really takes that long is told."""
    from types import SimpleNamespace

    from tuitune.trainer import watch as module

    now = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    told: list[str] = []
    telemetry = SimpleNamespace(journal=SimpleNamespace(emit=lambda ev, **fields: told.append(f"{ev} {fields['step']}")))
    built, run = build(workspace, recipe(tiny_model) + "launch: {gpus: cpu}\n")
    watch, trainer = module.Watch(built, run, telemetry), SimpleNamespace(state=SimpleNamespace(global_step=0))
    watch.step_begins()
    for step in range(1, 31):
        now[0] += 600 if step == 25 else 1
        trainer.state.global_step = step
        watch.before_boundary(trainer, 1.0, 1.0)
        watch.after_boundary(trainer)
        now[0] += 600 if step == 20 else 0.1
        watch.step_begins()
    assert told == ["alarm 25"]


class Poison(transformers.TrainerCallback):  # type: ignore[misc]
    """Makes a weight no number before a step, as a too high rate would."""

    def __init__(self, trainer: Any, step: int) -> None:
        self.trainer, self.step = trainer, step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step - 1:
            next(weight for weight in self.trainer.model.parameters() if weight.requires_grad).data.fill_(float("nan"))


STOP = [{"id": "a", "op": "stop", "args": {"save": True}}]  # at the first look after the step: the run is paused then


def test_a_loss_that_is_no_number_is_told_and_nothing_is_saved_over_what_is_good(tiny_model: Path, workspace: Path) -> None:
    """Also when the step is not logged: the boundary looks at every one. A stop that asks for a checkpoint gets none."""
    text = recipe(tiny_model, training=", save_steps: 1").replace("save_strategy: 'no'", "save_strategy: steps")
    text = text.replace("logging_steps: 1", "logging_steps: 5")
    records, stop = train(workspace, text, lambda trainer: trainer.add_callback(Poison(trainer, 4)), planned={5: STOP})
    (alarm,) = of(records, "alarm")
    assert (alarm["kind"], alarm["step"]) == ("nan", 4)
    assert alarm["text"].startswith("the loss is nan at step 4")
    assert alarm["then"]["resume_from"] == "checkpoint-3"
    assert [record["step"] for record in of(records, "checkpoint")] == [1, 2, 3]
    assert (stop.asked, stop.save) == (True, False)


def diverges(trainer: Any) -> None:
    """The third log raises the alarm."""
    from tuitune.trainer.watching import Alarm

    trainer.watch.watching.log = lambda log: [Alarm("divergence", log.step, "the loss has risen")] if log.step == 3 else []


def test_without_a_word_of_the_recipe_an_alarm_proposes_and_the_run_goes_on(tiny_model: Path, workspace: Path) -> None:
    records, stop = train(workspace, recipe(tiny_model), diverges)
    assert [alarm["kind"] for alarm in of(records, "alarm")] == ["divergence"]
    assert not of(records, "applied")
    assert (len(losses(records)), stop.asked) == (6, False)


def test_what_the_recipe_wants_at_an_alarm_is_ordered_by_tuitune_with_the_alarm_as_its_reason(tiny_model: Path, workspace: Path) -> None:
    records, stop = train(workspace, recipe(tiny_model) + "watch: {then: {divergence: pause}}\n", diverges, planned={4: STOP})
    first, second = of(records, "applied")
    assert (first["op"], first["by"], first["step"], first["ok"], first["mode"]) == ("pause", "tuitune", 3, True, "keep")
    assert first["why"] == "divergence: the loss has risen"
    assert (second["op"], second["id"]) == ("stop", "a")
    paused = next(record for record in of(records, "state") if record["s"] == "paused")
    assert paused["why"] == first["why"]
    assert (len(losses(records)), stop.asked) == (3, True)


def test_a_run_that_shall_stop_at_a_loss_that_is_no_number_ends_by_itself_and_saves_nothing(tiny_model: Path, workspace: Path) -> None:
    text = recipe(tiny_model) + "watch: {then: {nan: stop}}\n"
    records, stop = train(workspace, text, lambda trainer: trainer.add_callback(Poison(trainer, 4)))
    (order,) = of(records, "applied")
    assert (order["op"], order["by"], order["step"]) == ("stop", "tuitune", 4)
    assert (stop.asked, stop.save, stop.why.startswith("nan: the loss is nan at step 4")) == (True, False, True)
    assert not of(records, "checkpoint")


def test_the_end_of_an_epoch_saves_nothing_of_it_either(tiny_model: Path, workspace: Path) -> None:
    """The trainer comes to the boundary once more there."""
    text = recipe(tiny_model).replace("save_strategy: 'no'", "save_strategy: epoch").replace("max_steps: 6", "num_train_epochs: 2")
    text = text.replace("per_device_train_batch_size: 2", "per_device_train_batch_size: 8")
    records, _ = train(workspace, text, lambda trainer: trainer.add_callback(Poison(trainer, 9)), planned={10: STOP})
    assert [record["step"] for record in of(records, "checkpoint")] == [6]
    assert [alarm["step"] for alarm in of(records, "alarm")] == [9]


def test_the_boundary_gets_loss_and_gradient_norm_first() -> None:
    import inspect

    names = list(inspect.signature(transformers.Trainer._maybe_log_save_evaluate).parameters)
    assert names[1:3] == ["tr_loss", "grad_norm"]
