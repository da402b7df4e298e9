"""tokenizer.add_special_tokens from the recipe to an adapter that loads elsewhere: small models, real training on the CPU.

The tiny tokenizer has 322 tokens, so <|tool|> and <|call|> become 322 and 323.
"""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import NoCommands, new_run
from tests.support.tiny_model import make_tiny_model
from tuitune.bus.journal import Journal
from tuitune.errors import UserError
from tuitune.recipe.recipe import load_recipe
from tuitune.runs.directory import RunDirectory
from tuitune.runs.manifest import read_manifest
from tuitune.trainer.__main__ import _save, _train
from tuitune.trainer.ranks import Rank
from tuitune.trainer.stop import StopRequest
from tuitune.trainer.telemetry import Telemetry

torch = pytest.importorskip("torch")

NEW = "tokenizer: {add_special_tokens: ['<|tool|>', '<|call|>']}\n"
IDS = [322, 323]
LORA = "peft: {r: 4, lora_alpha: 8, target_modules: all-linear}\n"
NF4 = "quantization: {load_in_4bit: true, bnb_4bit_quant_type: nf4, bnb_4bit_compute_dtype: bfloat16}\n"
TURNS = "{user: question, assistant: answer}"
PAIRS = "{prompt: question, chosen: answer, rejected: question}"


def make_model(folder: Path, tied: bool, rows: int) -> Path:
    """The tiny model with input and output embedding tied or apart, cut to `rows` rows."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(make_tiny_model(folder))
    model.resize_token_embeddings(rows)
    if not tied:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() * 1.1)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`full` ones have no row for another token, `spare` has 126."""
    folder = tmp_path_factory.mktemp("models")
    made = {"tied full": (True, 322), "untied full": (False, 322), "tied spare": (True, 448)}
    return {name: make_model(folder / name.replace(" ", "-"), *how) for name, how in made.items()}


def recipe(model: Path, sections: str = NEW + LORA, task: str = "sft", more: str = "", columns: str = TURNS, about_model: str = "") -> str:
    return (
        f"task: {task}\nmodel: {{name_or_path: {model}, dtype: float32{about_model}}}\n{sections}"
        f"dataset:\n  train: [{{path: train.jsonl, columns: {columns}}}]\n"
        "training: {max_steps: 3, learning_rate: 1.0e-2, logging_steps: 1, per_device_train_batch_size: 4, max_length: 64, "
        f"save_strategy: 'no'{more}}}\n"
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    rows = [{"question": f"<|tool|> the cat {n}", "answer": f"sat <|call|> on {n}"} for n in range(16)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def build(folder: Path, text: str) -> tuple[Any, RunDirectory]:
    from tuitune.trainer.build import build as build_trainer

    run = new_run(folder, text)
    recipe = load_recipe(run.recipe, base=folder)
    recipe.launch["gpus"] = "cpu"  # where logits are the same to the bit
    return build_trainer(recipe, run), run


def follow(built: Any, run: RunDirectory) -> Telemetry:
    """Train with a journal, as `python -m tuitune.trainer` does."""
    telemetry = Telemetry(Journal(run.journal / "trainer-1.jsonl"), NoCommands())
    _train(built, run, telemetry, StopRequest(), read_manifest(run), Rank())
    return telemetry


def train(folder: Path, text: str) -> tuple[Any, RunDirectory]:
    """Trained and saved as a run does it."""
    built, run = build(folder, text)
    _save(built, run, follow(built, run))
    return built, run


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model.eval()(torch.tensor([[5, 6, *IDS, 7, 8]], device=model.device)).logits.cpu()


def losses(built: Any) -> list[float]:
    return [entry["loss"] for entry in built.trainer.state.log_history if "loss" in entry]


def ledger_of(built: Any) -> dict[tuple[str, str], Any]:
    from tuitune.trainer.effective import ledger

    return {(entry.section, entry.key): entry for entry in ledger(built)}


def loaded(model: Path, adapter: Path, **options: Any) -> Any:
    """With transformers and peft alone, as the README tells it."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(adapter)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, **options)
    if len(tokenizer) > base.get_input_embeddings().num_embeddings:
        base.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64)
    return PeftModel.from_pretrained(base, adapter)


@pytest.mark.parametrize(("name", "rows"), [("tied full", 384), ("untied full", 384), ("tied spare", 448)])
def test_new_tokens_get_rows_are_trained_and_load_again(models: dict[str, Path], workspace: Path, name: str, rows: int) -> None:
    built, run = train(workspace, recipe(models[name]))
    model = built.trainer.model
    wrapped = model.get_input_embeddings()
    before, after = wrapped.original_module.weight, wrapped.modules_to_save["default"].weight
    assert before.shape == after.shape == (rows, 64)
    assert torch.allclose(before[IDS], before[:322].mean(0).expand(2, -1), atol=1e-4), "new rows begin at the mean"
    assert not torch.isclose(before[IDS], after[IDS]).all(dim=1).any(), "they are trained"
    assert not torch.isclose(after[322], after[323]).all(), "each in a way of its own"
    tied = name.startswith("tied")
    assert (model.get_output_embeddings().weight is after) == tied
    entries = ledger_of(built)
    assert (entries["model", "embedding_rows"].value, entries["model", "embedding_rows"].source) == (rows, "adjusted")
    assert "embed_tokens" in entries["peft", "modules_to_save"].value
    assert "new tokens are learnt" in entries["peft", "modules_to_save"].why
    assert (entries["peft", "ensure_weight_tying"].value, entries["peft", "ensure_weight_tying"].source == "adjusted") == (tied, tied)
    assert torch.equal(logits(model), logits(loaded(models[name], run.adapter)))


def test_an_adapter_holds_each_embedding_once(models: dict[str, Path], workspace: Path) -> None:
    from safetensors import safe_open

    _, run = train(workspace, recipe(models["untied full"]))
    with safe_open(run.adapter / "adapter_model.safetensors", "pt") as opened:
        whole = [name for name in opened.keys() if "lora" not in name]  # noqa: SIM118 (no mapping)
    assert sorted(whole) == ["base_model.model.lm_head.weight", "base_model.model.model.embed_tokens.weight"]


def test_a_fresh_process_has_the_same_logits(models: dict[str, Path], workspace: Path) -> None:
    built, run = train(workspace, recipe(models["tied full"]))
    torch.save(logits(built.trainer.model), workspace / "logits.pt")
    code = (
        f"import sys, torch; torch.set_num_threads({torch.get_num_threads()})\n"  # another number of threads sums in another order
        "from pathlib import Path; from tests.contract.test_new_tokens import loaded, logits\n"
        "model, adapter, kept = map(Path, sys.argv[1:]); assert torch.equal(logits(loaded(model, adapter)), torch.load(kept))"
    )
    places = [str(models["tied full"]), str(run.adapter), str(workspace / "logits.pt")]
    subprocess.run([sys.executable, "-c", code, *places], check=True, timeout=120, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("name", ["tied full", "untied full"])
def test_a_4_bit_base_learns_new_tokens(models: dict[str, Path], workspace: Path, name: str) -> None:
    from transformers import BitsAndBytesConfig

    built, run = train(workspace, recipe(models[name], NEW + LORA + NF4))
    assert losses(built)[-1] < losses(built)[0]
    quantised = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    assert torch.equal(logits(built.trainer.model), logits(loaded(models[name], run.adapter, quantization_config=quantised)))


@pytest.mark.parametrize("name", ["tied full", "untied full"])
def test_a_16_bit_model_learns_new_tokens_in_float32(models: dict[str, Path], workspace: Path, name: str) -> None:
    built, run = build(workspace, recipe(models[name]).replace("float32", "bfloat16"))
    seen = set()
    layers = [module for name, module in built.trainer.model.named_modules() if name.endswith("q_proj.base_layer")]
    layers[0].register_forward_pre_hook(lambda module, arguments: seen.add(arguments[0].dtype))
    follow(built, run)
    assert losses(built)[-1] < losses(built)[0]
    assert seen == {torch.bfloat16}, "between the embeddings nothing is wider than before"
    assert built.trainer.model.get_input_embeddings().weight.dtype == torch.float32
    assert logits(built.trainer.model).isfinite().all()


def test_full_fine_tuning_saves_a_model_that_knows_them(models: dict[str, Path], workspace: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    built, run = train(workspace, recipe(models["tied full"], NEW))
    assert ledger_of(built)["model", "embedding_rows"].value == 384
    assert AutoTokenizer.from_pretrained(run.adapter).convert_tokens_to_ids(["<|tool|>", "<|call|>"]) == IDS
    assert torch.equal(logits(built.trainer.model), logits(AutoModelForCausalLM.from_pretrained(run.adapter, dtype=torch.float32)))


def test_rows_begin_the_same_for_one_seed(models: dict[str, Path], workspace: Path) -> None:
    first, second, other = (
        build(workspace, recipe(models["tied full"], more=f", seed: {seed}"))[0].trainer.model.get_input_embeddings().weight
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first[IDS], other[IDS])


@pytest.mark.parametrize("sections", [NEW + LORA, NEW], ids=["lora", "full"])
def test_preferences_with_new_tokens_begin_at_their_reference(models: dict[str, Path], workspace: Path, sections: str) -> None:
    built, _ = train(workspace, recipe(models["tied full"], sections, "dpo", columns=PAIRS))
    assert losses(built)[0] == pytest.approx(math.log(2), abs=1e-3)


def test_dpo_goes_on_with_an_adapter_that_has_new_tokens(models: dict[str, Path], workspace: Path) -> None:
    first, run = train(workspace, recipe(models["tied full"]))
    told = logits(first.trainer.model)
    second = recipe(models["tied full"], "", "dpo", columns=PAIRS, about_model=f", adapter: {run.adapter}")
    built, _ = build(workspace, second)
    assert torch.equal(logits(built.trainer.model), told)
    assert built.trainer.processing_class.convert_tokens_to_ids(["<|tool|>", "<|call|>"]) == IDS, "the adapter brings its tokenizer"
    assert ledger_of(built)["model", "embedding_rows"].value == 384
    built.trainer.model.set_adapter("ref")
    measured = logits(built.trainer.model)
    built.trainer.model.set_adapter("default")
    follow(built, run)
    assert not torch.equal(logits(built.trainer.model), told)
    built.trainer.model.set_adapter("ref")
    assert torch.equal(logits(built.trainer.model), measured), "the reference does not learn along"
    trained, after = train(workspace, second)
    assert losses(trained)[0] == pytest.approx(math.log(2), abs=1e-3)
    assert torch.equal(logits(trained.trainer.model), logits(loaded(models["tied full"], after.adapter)))


def test_whoever_looks_at_the_rows_sees_the_same_ids(models: dict[str, Path], workspace: Path) -> None:
    """The analyst's hollow model has the rows too; preflight and F7 prepare with it."""
    from tuitune.analyst.inspection import inspect
    from tuitune.analyst.prepared_rows import hollow_trainer
    from tuitune.trainer.build import begin
    from tuitune.trainer.prepared import hash_rows

    built, run = build(workspace, recipe(models["tied full"]))
    seen = begin(load_recipe(run.recipe, base=workspace))
    hollow_trainer(seen)
    told = seen.trainer.train_dataset.select_columns(built.trainer.train_dataset.column_names)
    assert hash_rows(told).sha256 == hash_rows(built.trainer.train_dataset).sha256
    assert seen.trainer.model.get_input_embeddings().num_embeddings == 384
    looked_at = inspect(load_recipe(run.recipe, base=workspace))
    assert set(IDS) <= looked_at.special
    assert (looked_at.texts[322], looked_at.texts[323]) == ("<|tool|>", "<|call|>")


def test_a_judge_has_only_an_input_side(models: dict[str, Path], workspace: Path) -> None:
    built, _ = train(workspace, recipe(models["tied full"], task="reward", columns=PAIRS))
    assert "embed_tokens" in ledger_of(built)["peft", "modules_to_save"].value
    assert "lm_head" not in ledger_of(built)["peft", "modules_to_save"].value


def test_checkpoints_hold_the_rows_too(models: dict[str, Path], workspace: Path) -> None:
    from tuitune.runs.checkpoints import is_complete

    built, run = train(
        workspace, recipe(models["tied full"], more=", save_steps: 3").replace("save_strategy: 'no'", "save_strategy: steps")
    )
    checkpoint = run.checkpoints / "checkpoint-3"
    assert is_complete(checkpoint)
    assert torch.equal(logits(built.trainer.model), logits(loaded(models["tied full"], checkpoint)))


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (NEW.replace("<|tool|>", "<|im_start|>") + LORA, "'<|im_start|>' is a token of this tokenizer already"),
        (
            NEW + LORA.replace("r: 4", "r: 4, modules_to_save: [norm]"),
            "peft.modules_to_save: with tokenizer.add_special_tokens it must",
        ),
        (NEW + LORA.replace("r: 4", "r: 4, ensure_weight_tying: false"), "peft.ensure_weight_tying: with tokenizer.add_special_tokens"),
        (NEW + LORA.replace("r: 4", "r: 4, trainable_token_indices: [5]"), "peft.trainable_token_indices: with"),
        (NEW + LORA.replace("all-linear", "[q_proj, embed_tokens]"), "embed_tokens cannot be both a LoRA target and trained whole"),
    ],
)
def test_what_contradicts_new_tokens_is_named(models: dict[str, Path], workspace: Path, sections: str, words: str) -> None:
    with pytest.raises(UserError, match=r"recipe.yaml:[34]: ") as refused:
        build(workspace, recipe(models["tied full"], sections))
    assert words in str(refused.value)


def test_what_the_user_wrote_for_new_tokens_stays(models: dict[str, Path], workspace: Path) -> None:
    written = LORA.replace("r: 4", "r: 4, modules_to_save: [lm_head, norm, embed_tokens], ensure_weight_tying: true")
    built, _ = build(workspace, recipe(models["tied full"], NEW + written))
    assert ledger_of(built)["peft", "modules_to_save"].source == "recipe"
    assert not [key for key in built.filled if key[0] == "peft" and key[1] != "task_type"]


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "gemma3_text", "qwen3", "phi3"])
def test_each_architecture_has_names_of_its_own(kind: str) -> None:
    """peft finds exactly the embeddings, tied as the model ties them."""
    import peft
    import transformers

    from tuitune.analyst.hollow import shrink
    from tuitune.recipe.new_tokens import filled_in
    from tuitune.trainer.new_tokens import make_rows, modules_of

    config = transformers.AutoConfig.for_model(kind, vocab_size=40, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    shrink(config)
    model = transformers.AutoModelForCausalLM.from_config(config)
    make_rows(model, [40], seed=1)
    modules = modules_of(model)
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM", **filled_in({}, modules)))
    whole = [name for name, weight in adapted.named_parameters() if weight.requires_grad and "lora" not in name]
    assert len(whole) == (1 if modules.tied else 2)
    assert all("modules_to_save" in name for name in whole)
    assert adapted.get_input_embeddings().weight.shape[0] == 64
