"""After a reward model is trained: it is merged with its head and scores as before, and what only a writer can do is refused at once."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from tests.support.tiny_model import make_tiny_model
from tests.support.trained import LORA, NF4, Trained, train_reward
from tuitune import cli
from tuitune.after.loading import load
from tuitune.after.merge import merge
from tuitune.after.merge_plan import MergePlan, plan_merge
from tuitune.after.publish_commands import card_of
from tuitune.after.push_plan import plan_push
from tuitune.after.same_scores import check_scores
from tuitune.after.source import Source, find_source
from tuitune.runs.listing import list_runs

TEXTS = ["the cat sat on a mat", "one two three four", "a"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train_reward(tmp_path_factory.mktemp("reward") / "it")


def source_of(trained: Trained) -> Source:
    return find_source(str(trained.run.path), trained.workspace)


def merged(trained: Trained, out: Path) -> MergePlan:
    plan = plan_merge(source_of(trained), out)
    merge(source_of(trained), plan)
    return plan


def scores(model: Any, tokenizer: Any, texts: list[str] = TEXTS) -> torch.Tensor:
    """In one batch, padded, as anybody would ask for them."""
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    with torch.no_grad():
        found: torch.Tensor = model(**batch).logits.float()
    return found


def test_the_adapter_s_head_is_loaded_and_not_drawn_anew(reward: Trained) -> None:
    first, tokenizer = load(source_of(reward), adapter=True, four_bit=False, dtype="float32", device="cpu")
    torch.manual_seed(1)
    again, _ = load(source_of(reward), adapter=True, four_bit=False, dtype="float32", device="cpu")
    assert torch.equal(scores(first, tokenizer), scores(again, tokenizer))
    kept = {name: value for name, value in reward.trainer.model.named_parameters() if "score.modules_to_save" in name}
    assert len(kept) == 1, "the head is trained"
    loaded = dict(again.named_parameters())
    assert all(torch.equal(loaded[name], value) for name, value in kept.items())


def test_it_merges_with_its_head_and_loads_and_scores_as_before(reward: Trained, tmp_path: Path) -> None:
    plan = merged(reward, tmp_path / "merged")
    config = json.loads((plan.out / "config.json").read_text())
    assert (config["architectures"], config["pad_token_id"] is None) == (["LlamaForSequenceClassification"], False)
    model = AutoModelForSequenceClassification.from_pretrained(plan.out, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(plan.out)
    adapter, _ = load(source_of(reward), adapter=True, four_bit=False, dtype="float32", device="cpu")
    found, wanted = scores(model, tokenizer), scores(adapter, tokenizer)
    assert wanted.std() > 0.01, "it tells texts apart"
    torch.testing.assert_close(found, wanted, atol=0.02, rtol=0.02)
    assert torch.allclose(scores(model, tokenizer, TEXTS[2:]), found[2:], atol=1e-4), "padding changes no score"


def job(trained: Trained, words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.chdir(trained.workspace)
    return cli.main(words)


def test_the_merge_is_checked_by_its_scores(reward: Trained, tmp_path: Path) -> None:
    plan = merged(reward, tmp_path / "merged")
    found = check_scores(source_of(reward), plan, "cpu", lambda done, total, what: None, lambda: False)
    assert found["passed"], found["words"]
    assert 0 < found["relative"] < found["allowed"]
    assert "of 190 pairs of texts are in the same order" in found["words"]
    model = AutoModelForSequenceClassification.from_pretrained(plan.out)
    with torch.no_grad():
        model.score.weight.mul_(1.2)
    model.save_pretrained(plan.out)
    spoilt = check_scores(source_of(reward), plan, "cpu", lambda done, total, what: None, lambda: False)
    assert not spoilt["passed"]
    assert spoilt["words"].startswith("it does not judge as the adapter does: ")


def test_a_base_that_names_no_pad_token_is_scored_in_batches_all_the_same(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(make_tiny_model(tmp_path / "model"))
    model.config.pad_token_id = model.generation_config.pad_token_id = None
    model.save_pretrained(tmp_path / "model")
    trained = train_reward(tmp_path / "run", model=tmp_path / "model")
    plan = merged(trained, tmp_path / "merged")
    tokenizer = AutoTokenizer.from_pretrained(plan.out)
    assert scores(AutoModelForSequenceClassification.from_pretrained(plan.out), tokenizer).shape == (3, 1)


def test_a_quantised_run_merges_into_the_full_base(tmp_path: Path) -> None:
    trained = train_reward(tmp_path / "run", NF4 + LORA)
    plan = merged(trained, tmp_path / "merged")
    assert "quantization_config" not in json.loads((plan.out / "config.json").read_text())
    found = check_scores(source_of(trained), plan, "cpu", lambda done, total, what: None, lambda: False)
    assert found["passed"], found["words"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["chat", "RUN"], "nothing to chat with"),
        (["eval", "RUN", "--data", "rows.jsonl"], "no answer to measure here"),
        (["export", "RUN", "--to", "gguf"], "no GGUF file and no server for it"),
        (["export", "RUN", "--to", "hf", "--snippets"], "no GGUF file and no server for it"),
    ],
)
def test_what_only_a_writer_can_do_is_refused_before_anything_starts(
    reward: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    (reward.workspace / "rows.jsonl").write_text('{"text": "a"}\n')
    before = len(list_runs(reward.workspace / "runs"))
    monkeypatch.setattr("sys.stdin", io.StringIO("a question\n"))
    assert job(reward, [str(reward.run.path) if word == "RUN" else word for word in words], monkeypatch) == 1
    assert f"is a reward model: it judges texts and writes none, so there is {told}" in capsys.readouterr().err
    assert len(list_runs(reward.workspace / "runs")) == before


def test_an_adapter_from_elsewhere_and_a_merge_say_themselves_what_they_are(reward: Trained, tmp_path: Path) -> None:
    plan = merged(reward, tmp_path / "merged")
    assert find_source(str(plan.out), tmp_path).judges
    shutil.copytree(reward.run.adapter, tmp_path / "adapter")
    assert find_source(str(tmp_path / "adapter"), tmp_path).judges


def test_its_card_says_how_to_score_and_nothing_of_writing(reward: Trained) -> None:
    plan = plan_push(reward.run.adapter, "jane/judge")
    card = card_of(plan)
    assert "AutoPeftModelForSequenceClassification" in card
    assert "pipeline_tag: text-classification" in card
    assert not [word for word in ("generate(", "vllm", "CausalLM") if word in card]


def test_the_card_s_own_lines_score_a_text(reward: Trained) -> None:
    """What a reader of the card copies, with the adapter's folder for its name on the Hub."""
    card = card_of(plan_push(reward.run.adapter, "jane/judge"))
    python = card.split("```python\n")[1].split("```")[0].replace("jane/judge", str(reward.run.adapter))
    done = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True, timeout=120)
    adapter, tokenizer = load(source_of(reward), adapter=True, four_bit=False, dtype="float32", device="cpu")
    turns = [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]
    with torch.no_grad():
        wanted = adapter(**tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)).logits[0, 0].item()
    assert float(done.stdout) == pytest.approx(wanted, abs=0.05), done.stderr
