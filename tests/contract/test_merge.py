"""A merged model says what the adapter says, in 16 bits, tied or not, with new tokens; and the check tells when it does not."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.support.tiny_model import make_tiny_model
from tests.support.trained import LORA, NF4, Trained, train_and_save
from tuitune import cli
from tuitune.after import equivalence
from tuitune.after.merge import merge, settle_generation
from tuitune.after.merge_plan import MergePlan, plan_merge, require_room
from tuitune.after.source import Source, find_source
from tuitune.errors import UserError
from tuitune.runs.listing import list_runs

NEW = "tokenizer: {add_special_tokens: ['<|tool|>']}\n"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def qlora(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train_and_save(tmp_path_factory.mktemp("qlora") / "it", NF4 + LORA)


def source_of(trained: Trained) -> Source:
    return find_source(str(trained.run.path), trained.workspace)


def merged(trained: Trained, out: Path, **options: Any) -> MergePlan:
    plan = plan_merge(source_of(trained), out, **options)
    merge(source_of(trained), plan)
    return plan


def checked(trained: Trained, plan: MergePlan) -> dict[str, Any]:
    return equivalence.check_merge(source_of(trained), plan, "cpu", lambda done, total, what: None, lambda: False)


def untied_model(folder: Path) -> Path:
    model = AutoModelForCausalLM.from_pretrained(make_tiny_model(folder))
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() * 1.1)
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


def test_a_qlora_run_merges_into_the_16_bit_base_and_says_the_same(qlora: Trained, tmp_path: Path) -> None:
    plan = merged(qlora, tmp_path / "merged")
    assert plan.dtype == "bfloat16"
    model = AutoModelForCausalLM.from_pretrained(plan.out, dtype="auto")
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert getattr(model.config, "quantization_config", None) is None
    found = checked(qlora, plan)
    assert found["passed"], found["words"]
    assert (found["prompts"], found["same"] + found["ties"]) == (20, 20)
    assert found["relative"] < found["allowed"] < found["effect"]["relative"], "the adapter does more than the rounding"
    assert found["four_bit"]["relative"] > found["allowed"], "training saw a 4-bit base, which is another model"
    assert found["data"] == "dataset.train of the run"


def test_the_merged_folder_is_whole_and_has_what_a_server_needs(qlora: Trained, tmp_path: Path) -> None:
    plan = merged(qlora, tmp_path / "merged")
    names = {path.name for path in plan.out.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "merge.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt"))]
    tokenizer = AutoTokenizer.from_pretrained(plan.out)
    assert tokenizer.chat_template == qlora.trainer.processing_class.chat_template
    assert json.loads((plan.out / "generation_config.json").read_text())["eos_token_id"] == tokenizer.eos_token_id
    record = json.loads((plan.out / "merge.json").read_text())
    assert (record["dtype"], record["untied"]) == ("bfloat16", False)
    assert [path.name for path in tmp_path.iterdir()] == ["merged"], "nothing half-written is left beside it"


def test_shards_are_as_large_as_was_asked(qlora: Trained, tmp_path: Path) -> None:
    plan = plan_merge(source_of(qlora), tmp_path / "merged")
    merge(source_of(qlora), plan, max_shard_size="100KB")
    assert len(list(plan.out.glob("model-*-of-*.safetensors"))) > 1
    assert AutoModelForCausalLM.from_pretrained(plan.out) is not None


@pytest.mark.parametrize("tied", [True, False])
def test_new_tokens_rows_come_along(tmp_path: Path, tied: bool) -> None:
    model = None if tied else untied_model(tmp_path / "untied")
    trained = train_and_save(tmp_path / "run", NEW + LORA, model)
    plan = merged(trained, tmp_path / "merged")
    found = checked(trained, plan)
    assert found["passed"], found["words"]
    model = AutoModelForCausalLM.from_pretrained(plan.out)
    one = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert one == tied
    tokenizer = AutoTokenizer.from_pretrained(plan.out)
    row = model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids("<|tool|>")].float()
    kept = trained.trainer.model.get_input_embeddings().modules_to_save["default"].weight
    torch.testing.assert_close(row, kept[tokenizer.convert_tokens_to_ids("<|tool|>")].float(), atol=1e-2, rtol=1e-2)


def test_embeddings_that_were_trained_apart_stay_apart(tmp_path: Path) -> None:
    """A tied model with modules_to_save for both: tied again, one of the two would be lost in silence."""
    apart = "peft: {r: 4, target_modules: [q_proj], modules_to_save: [embed_tokens, lm_head], ensure_weight_tying: false}\n"
    trained = train_and_save(tmp_path / "run", apart)
    plan = merged(trained, tmp_path / "merged")
    assert json.loads((plan.out / "merge.json").read_text())["untied"] is True
    assert json.loads((plan.out / "config.json").read_text())["tie_word_embeddings"] is False
    assert checked(trained, plan)["passed"]


def damage(folder: Path, name: str, factor: float) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        dict(model.named_parameters())[name].mul_(factor)
    model.save_pretrained(folder)


def test_a_wrong_weight_is_found(qlora: Trained, tmp_path: Path) -> None:
    plan = merged(qlora, tmp_path / "merged")
    damage(plan.out, "model.layers.1.mlp.down_proj.weight", 1.5)
    found = checked(qlora, plan)
    assert not found["passed"]
    assert found["words"].startswith("it does not say what the reference says")


def test_the_base_alone_is_not_taken_for_a_merged_model(qlora: Trained, tmp_path: Path) -> None:
    plan = merged(qlora, tmp_path / "merged")
    bare = AutoModelForCausalLM.from_pretrained(source_of(qlora).base)
    bare.save_pretrained(plan.out)
    assert not checked(qlora, plan)["passed"]


def test_a_broken_adapter_is_not_merged_and_an_older_result_stays(qlora: Trained, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    plan = merged(qlora, tmp_path / "merged")
    before = (plan.out / "model.safetensors").read_bytes()
    weights = load_file(qlora.run.adapter / "adapter_model.safetensors")
    name = next(name for name in weights if "lora_B" in name)
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in qlora.run.adapter.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    save_file({**weights, name: weights[name] * float("nan")}, broken / "adapter_model.safetensors")
    with pytest.raises(UserError, match="cannot be merged: NaNs detected"):
        merge(replace(source_of(qlora), adapter=broken), plan)
    assert (plan.out / "model.safetensors").read_bytes() == before


def test_what_is_needed_is_known_before_anything_is_loaded(qlora: Trained, tmp_path: Path) -> None:
    plan = plan_merge(source_of(qlora))
    assert plan.out == qlora.run.path / "merged"
    assert plan.parameters == sum(weight.numel() for weight in AutoModelForCausalLM.from_pretrained(source_of(qlora).base).parameters())
    assert (plan.disk, plan.check) == (2 * plan.parameters, 4 * plan.parameters)
    with pytest.raises(UserError, match="--no-check merges without the check"):
        require_room(plan, memory=1000)
    with pytest.raises(UserError, match="make room or name --out"):
        require_room(replace(plan, disk=1 << 60))


def test_what_cannot_be_merged_is_refused_with_the_remedy(qlora: Trained, tmp_path: Path) -> None:
    source = source_of(qlora)
    with pytest.raises(UserError, match="whole model already"):
        plan_merge(replace(source, adapter=None))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="holds something that is no merged model"):
        plan_merge(source, tmp_path / "mine")
    quantised = make_tiny_model(tmp_path / "quantised")
    config = json.loads((quantised / "config.json").read_text())
    (quantised / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "bitsandbytes"}}))
    with pytest.raises(UserError, match="name the full-precision model with --base"):
        plan_merge(replace(source, base=str(quantised)))


def test_generation_stops_where_the_training_ended_its_answers(qlora: Trained) -> None:
    model = AutoModelForCausalLM.from_pretrained(source_of(qlora).base)
    model.generation_config.eos_token_id = 0
    model.generation_config.temperature = 0.6
    settle_generation(model, qlora.trainer.processing_class)
    assert model.generation_config.eos_token_id == [0, qlora.trainer.processing_class.eos_token_id]
    model.generation_config.validate(strict=True)


@pytest.mark.timeout(420)
def test_the_command_merges_in_a_job_and_prints_one_document(
    qlora: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(qlora.workspace)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cli.main(["merge", str(qlora.run.path), "--cpu", "--dtype", "float16", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["path"], document["dtype"]) == (1, str(qlora.run.path / "merged"), "float16")
    assert document["check"]["passed"], document["check"]["words"]
    assert {weight.dtype for weight in AutoModelForCausalLM.from_pretrained(document["path"]).parameters()} == {torch.float16}
    (job,) = [run for run in list_runs(qlora.workspace / "runs") if run.id.startswith("merge-")]
    assert (job.state, document["run"]) == ("done", job.id)
