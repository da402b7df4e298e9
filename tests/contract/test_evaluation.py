"""An evaluation of a really trained tiny model: its losses are transformers' own, its answers those of a plain `generate`."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_job_loading import Trained
from tests.support.runs import NoCommands
from tests.support.tiny_model import write_rows
from tuitune.after.job import Job
from tuitune.bus.journal import Journal, JournalTail
from tuitune.errors import UserError
from tuitune.runs.directory import create_run
from tuitune.runs.manifest import Manifest, write_manifest
from tuitune.trainer.stop import StopRequest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

COLUMNS = {"user": "question", "assistant": "answer"}
NEW = 12  # tokens an answer


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A LoRA run with a result."""
    trained = Trained(tmp_path_factory.mktemp("evaluated") / "it", "peft: {r: 4, target_modules: all-linear}")
    trained.save(trained.run.adapter)
    return trained


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A full fine-tuning with a result."""
    trained = Trained(tmp_path_factory.mktemp("evaluated") / "full", "")
    trained.save(trained.run.adapter)
    return trained


def job_of(folder: Path, **args: Any) -> Job:
    """A job whose process is this one."""
    torch.set_num_threads(1)
    run = create_run(folder / "runs", "eval-test", "task: sft\n")
    write_manifest(run, Manifest("eval-test", workspace=str(folder), kind="eval", job=args))
    return Job(
        run,
        "eval",
        {"gpus": "cpu", "max_new_tokens": NEW, **args},
        Journal(run.journal / "trainer-1.jsonl"),
        NoCommands(),
        StopRequest(),
        folder,
    )  # type: ignore[arg-type]


def evaluate(folder: Path, source: str, **args: Any) -> dict[str, Any]:
    """The document that an evaluation leaves in its run."""
    from tuitune.after.evaluate import run

    job = job_of(folder, source=source, **args)
    result = run(job)
    assert (job.run.path / "evaluation.md").read_text()
    document: dict[str, Any] = json.loads(Path(result["figures_file"]).read_text())
    return document


def rows_of(folder: Path, count: int = 10) -> list[dict[str, Any]]:
    return [json.loads(line) for line in write_rows(folder / "held-out.jsonl", count).read_text().splitlines()]


def held_out(folder: Path, rows: list[dict[str, Any]], columns: dict[str, str] = COLUMNS) -> list[dict[str, Any]]:
    (folder / "held-out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [{"path": str(folder / "held-out.jsonl"), "columns": columns}]


def value(document: dict[str, Any], name: str) -> dict[str, Any]:
    (figure,) = [figure for figure in document["figures"] if figure["name"] == name]
    return figure


def reference(trained: Trained, row: dict[str, str], use: Any) -> tuple[float, str]:
    """The loss of the answer in nats and the greedy answer, without anything of tuitune's: one row, no padding."""
    tokenizer, model = trained.trainer.processing_class, use
    prompt = [{"role": "user", "content": row["question"]}]
    start = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
    ids = tokenizer.apply_chat_template([*prompt, {"role": "assistant", "content": row["answer"]}], return_dict=True)["input_ids"]
    labels = torch.tensor([[-100] * len(start) + ids[len(start) :]])
    with torch.no_grad():
        loss = model(input_ids=torch.tensor([ids]), labels=labels).loss.item() * int((labels[:, 1:] != -100).sum())
        made = model.generate(
            input_ids=torch.tensor([start]),
            attention_mask=torch.ones(1, len(start), dtype=torch.long),
            do_sample=False,
            max_new_tokens=NEW,
            pad_token_id=3,
        )
    answer = made[0][len(start) :].tolist()
    end = next((at for at, token in enumerate(answer) if token == tokenizer.eos_token_id), None)
    return loss, tokenizer.decode(answer[:end])


def test_losses_and_answers_of_both_sides_are_those_of_plain_transformers(adapter: Trained, tmp_path: Path) -> None:
    """Half of the gold answers are what the base says, so that its exact match is one half; batches are padded, the reference is not."""
    model = adapter.trainer.model.eval()
    rows = rows_of(tmp_path)
    with model.disable_adapter():
        for row in rows[::2]:
            row["answer"] = reference(adapter, row, model)[1]
        base = [reference(adapter, row, model) for row in rows]
    tuned = [reference(adapter, row, model) for row in rows]
    document = evaluate(tmp_path, str(adapter.run.path), data=held_out(tmp_path, rows), metrics=["nll", "exact"])
    assert document["sides"] == ["base", "adapter"]
    for side, expected in (("base", base), ("adapter", tuned)):
        found = [row["sides"][side] for row in document["rows"]]
        assert [one["nats"] for one in found] == pytest.approx([loss for loss, _ in expected], rel=1e-4)
        assert [one["answer"] for one in found] == [answer for _, answer in expected]
    exact = value(document, "exact")
    assert exact["values"]["base"] >= 0.5
    nll = value(document, "nll")
    tokens = sum(row["sides"]["base"]["tokens"] for row in document["rows"])
    assert nll["difference"] == pytest.approx((sum(loss for loss, _ in tuned) - sum(loss for loss, _ in base)) / tokens, rel=1e-3)
    assert nll["interval"][0] <= nll["difference"] <= nll["interval"][1]


def test_the_base_beside_an_adapter_is_the_base_by_itself(adapter: Trained, tmp_path: Path) -> None:
    data = held_out(tmp_path, rows_of(tmp_path))
    both = evaluate(tmp_path, str(adapter.run.path), data=data)
    alone = evaluate(tmp_path, str(adapter.workspace / "model"), data=data)
    assert alone["sides"] == ["model"]
    assert alone["forgetting"] is None
    assert value(alone, "nll")["values"]["model"] == pytest.approx(value(both, "nll")["values"]["base"], rel=1e-5)


def test_the_base_of_a_full_fine_tuning_is_loaded_after_it(full: Trained, tmp_path: Path) -> None:
    data = held_out(tmp_path, rows_of(tmp_path))
    document = evaluate(tmp_path, str(full.run.path), data=data)
    assert document["sides"] == ["base", "model"]
    alone = evaluate(tmp_path, str(full.workspace / "model"), data=data)
    nll = value(document, "nll")
    assert nll["values"]["base"] == pytest.approx(value(alone, "nll")["values"]["model"], rel=1e-5)
    assert nll["values"]["model"] < nll["values"]["base"], "two steps at a high rate on such rows have taught it something"


def test_forgetting_is_measured_on_the_same_texts_before_and_after(full: Trained, tmp_path: Path) -> None:
    document = evaluate(tmp_path, str(full.run.path), data=held_out(tmp_path, rows_of(tmp_path, 2)))
    skills = {one["skill"]: one for one in document["forgetting"]["skills"]}
    assert len(skills) == 8
    assert skills["all"]["texts"] == 42
    assert all(one["interval"][0] <= one["difference"] <= one["interval"][1] for one in skills.values())
    (tmp_path / "own.txt").write_text("the cat sat\nthe dog ran\n")
    own = evaluate(tmp_path, str(full.run.path), data=held_out(tmp_path, rows_of(tmp_path, 2)), forgetting="own.txt")
    assert [(one["skill"], one["texts"]) for one in own["forgetting"]["skills"]] == [("texts", 2), ("all", 2)]


def test_a_training_that_forgets_is_warned_of_on_top_of_the_report(full: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it has learnt in two steps counts when the limit is far below zero."""
    monkeypatch.setattr("tuitune.after.forgetting.LIMIT", -100.0)
    job = job_of(tmp_path, source=str(full.run.path), data=held_out(tmp_path, rows_of(tmp_path, 2)))
    from tuitune.after.evaluate import run

    run(job)
    assert "has forgotten" in (job.run.path / "evaluation.md").read_text().partition("## On held-out rows")[0]
    job.journal.close()
    (warning,) = [record["text"] for record in JournalTail(job.run.journal).poll() if record["ev"] == "warning"]
    assert "dataset.train" in warning


def test_the_rows_are_the_recipes_own_and_cut_as_in_training(tmp_path: Path) -> None:
    from tests.contract import test_job_loading

    recipe = test_job_loading.RECIPE.replace(
        "dataset:\n", "dataset:\n  eval:\n    - {{path: rows.jsonl, columns: {{user: question, assistant: answer}}, max_rows: 5}}\n"
    )
    recipe = recipe.replace("max_length: 64", "max_length: 24")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_job_loading, "RECIPE", recipe)
        trained = Trained(tmp_path / "it", "peft: {r: 4, target_modules: all-linear}")
    trained.save(trained.run.adapter)
    (trained.workspace / "rows.jsonl").symlink_to(tmp_path / "it" / "rows.jsonl")
    document = evaluate(tmp_path, str(trained.run.path))
    assert document["data"]["rows"] == 5
    prepared = trained.trainer._prepare_dataset(
        trained.trainer.train_dataset.from_list(_as_trl(tmp_path / "it" / "rows.jsonl")[:5]),
        trained.trainer.processing_class,
        trained.trainer.args,
        False,
        None,
        "eval",
    )
    counted = [sum(label != -100 for label in labels[1:]) for labels in prepared["labels"]]
    assert [row["sides"]["base"].get("tokens", 0) for row in document["rows"] if row["sides"]["base"]] == counted
    assert document["data"]["unmeasured"] == 5 - len(counted)
    (copy,) = (trained.run.path / "evaluations").glob("*.md")
    assert "Evaluation of" in copy.read_text()


def _as_trl(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        {"prompt": [{"role": "user", "content": row["question"]}], "completion": [{"role": "assistant", "content": row["answer"]}]}
        for row in rows
    ]


def test_a_choice_is_the_answer_with_the_smallest_loss(adapter: Trained, tmp_path: Path) -> None:
    model = adapter.trainer.model.eval()
    rows = rows_of(tmp_path, 6)
    losses = [[reference(adapter, {**row, "answer": text}, model)[0] for text in (row["answer"], "sea", "house")] for row in rows]
    right = [one.index(min(one)) for one in losses]
    choices = [{"q": row["question"], "c": [row["answer"], "sea", "house"], "k": right[number]} for number, row in enumerate(rows)]
    data = held_out(tmp_path, choices, {"user": "q", "choices": "c", "label": "k"})
    document = evaluate(tmp_path, str(adapter.run.path), data=data, metrics=["choice"])
    assert value(document, "choice")["values"]["adapter"] == 1.0
    assert [row["sides"]["adapter"]["choice_nats"] for row in document["rows"]] == [pytest.approx(one, rel=1e-4) for one in losses]


def test_preferences_are_choices_of_two(adapter: Trained, tmp_path: Path) -> None:
    pairs = [{"prompt": row["question"], "chosen": row["answer"], "rejected": "sea " * 9} for row in rows_of(tmp_path, 4)]
    document = evaluate(tmp_path, str(adapter.run.path), data=held_out(tmp_path, pairs, {name: name for name in pairs[0]}))
    assert {figure["name"] for figure in document["figures"]} == {"nll", "perplexity", "choice", "choice_bytes"}
    assert all(row["right"] == 0 for row in document["rows"])


def test_whoever_stops_it_has_what_was_measured_so_far(adapter: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuitune.after.evaluate.CHUNK", 4)
    from tuitune.after.evaluate import run

    job = job_of(tmp_path, source=str(adapter.run.path), data=held_out(tmp_path, rows_of(tmp_path)))
    told: Callable[..., None] = job.progress

    def progress(done: int, total: int, what: str) -> None:
        told(done, total, what)
        if done == 12:
            job.stop.ask("enough")

    monkeypatch.setattr(job, "progress", progress)
    run(job)
    document = json.loads((job.run.path / "evaluation.json").read_text())
    assert (document["data"]["done"], len(document["rows"]), value(document, "nll")["rows"]) == (4, 4, 4)
    assert "stopped after 4 rows" in (job.run.path / "evaluation.md").read_text()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({}, "has no dataset.eval: name rows it has not learnt from, --data FILE"),
        ({"data": [{"path": "/nowhere.jsonl"}]}, "does not exist"),
        ({"metrics": ["choice"], "data": "questions"}, "choice needs rows with choices"),
        ({"metrics": ["exact"], "data": "texts"}, "exact and regex need rows with a question and an answer"),
        ({"against": "base", "source": "model", "data": "texts"}, "is a base model itself"),
    ],
)
def test_what_cannot_be_measured_is_a_sentence(adapter: Trained, tmp_path: Path, args: dict[str, Any], words: str) -> None:
    if args.get("data") == "texts":
        args = {**args, "data": held_out(tmp_path, [{"text": "the cat sat"}], {"text": "text"})}
    elif args.get("data") == "questions":
        args = {**args, "data": held_out(tmp_path, rows_of(tmp_path, 2))}
    source = str(adapter.workspace / args.get("source", "")) if "source" in args else str(adapter.run.path)
    with pytest.raises(UserError, match=re.escape(words)):
        evaluate(tmp_path, **{**args, "source": source})


def test_the_command_runs_it_as_a_job_with_a_hub_and_prints_one_document(
    adapter: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tuitune import cli
    from tuitune.runs.listing import list_runs

    rows_of(tmp_path, 4)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = ["--data", "held-out.jsonl", "--columns", "user=question,assistant=answer", "--metric", "nll,exact", "--max-new-tokens", "4"]
    capsys.readouterr()
    assert cli.main(["eval", str(adapter.run.path), *words, "--cpu", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["sides"], document["data"]["done"]) == (1, ["base", "adapter"], 4)
    assert {figure["name"] for figure in document["figures"]} == {"nll", "perplexity", "exact", "stopped"}
    assert Path(document["report"]).read_text() == Path(document["copy"]).read_text()
    assert Path(document["copy"]).parent == adapter.run.path / "evaluations"
    (job,) = list_runs(tmp_path / "runs")
    assert (job.kind, job.state, job.step, job.max_steps) == ("eval", "done", 8, 8)


TASK = """\
task: toy
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["{{{{answer}}}}", "sea"]
doc_to_target: 0
metric_list: [{{metric: acc}}]
"""


def test_public_benchmarks_run_in_the_harness_on_both_sides(adapter: Trained, tmp_path: Path) -> None:
    """With the real package where it is installed (pip install lm_eval), on a task of our own: none of the public ones is on this box."""
    pytest.importorskip("lm_eval")
    rows_of(tmp_path, 6)
    (tmp_path / "toy.yaml").write_text(TASK.format(rows=tmp_path / "held-out.jsonl"))
    document = evaluate(tmp_path, str(adapter.run.path), harness=[str(tmp_path / "toy.yaml")], rows=4, forgetting="none")
    assert [(one["task"], one["metric"], one["side"]) for one in document["harness"]["results"]] == [
        ("toy", "acc", "base"),
        ("toy", "acc", "adapter"),
    ]


def test_public_benchmarks_without_the_harness_name_the_line_that_installs_it(
    adapter: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuitune.after.harness.installed", lambda: None)
    with pytest.raises(UserError, match=re.escape("not installed here: pip install lm_eval")):
        evaluate(tmp_path, str(adapter.run.path), harness=["arc_easy"])
