"""Checks of the training settings: each fault is found, its repair takes it away, sound neighbours raise no alarm."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.planted import CARD, alarms, assert_found_and_repaired, check, check_early, finding, plant, sound_rows, turns
from tests.support.runs import new_run
from tests.support.short_training import train_steps
from tuitune.errors import UserError
from tuitune.preflight.cards import CPU, Card, parse_card
from tuitune.preflight.repair import apply_fixes
from tuitune.preflight.report import fix
from tuitune.runs.manifest import read_manifest, write_manifest

T4 = parse_card("T4")
EVALUATION = [turns("How much is 1 and 1?", "That is 2."), turns("How much is 2 and 1?", "That is 3.")]
BEST = {"load_best_model_at_end": True}
STRINGS = [{"text": f"the cat sat on the mat {n} times and the dog ran home"} for n in range(24)]
LONG = [turns(f"the cat {n}", " ".join(f"the dog ran to {n * at % 97}" for at in range(12 if n else 40))) for n in range(24)]
PAIRS = [{"prompt": f"How much is {n} and {n}?", "chosen": f"It is {2 * n}.", "rejected": f"I think {n + 1}."} for n in range(25)]
PAIR_COLUMNS = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}


def no_limit(model: Path) -> None:
    """A tokenizer that names no largest length."""
    config = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**config, "model_max_length": int(1e30)}))


def base_model(model: Path) -> None:
    """Without a chat template."""
    (model / "chat_template.jinja").unlink()


@pytest.mark.parametrize(
    ("id", "severity", "card", "sections"),
    [
        ("TRN01", "error", CARD, {"training": {"per_device_train_batch_size": 0}}),
        ("TRN01", "error", CARD, {"training": {"gradient_accumulation_steps": 0}}),
        ("TRN01", "error", CARD, {"training": {"num_train_epochs": 0}}),
        ("TRN03", "error", CARD, {"training": {"evaluation_strategy": "no"}}),
        ("TRN03", "error", CARD, {"training": {"warmup_ratio": 0.1}}),
        ("TRN03", "warning", CARD, {"training": {"use_liger_kernel": True}}),
        ("TRN04", "error", CARD, {"training": {"fp16": True, "bf16": True}}),
        ("TRN04", "error", T4, {"training": {"bf16": True}}),
        ("TRN04", "error", T4, {"peft": None, "load": {"dtype": "float16"}, "training": {"learning_rate": 1e-5}}),
        ("TRN04", "error", T4, {"launch": {"adapter_dtype": "bfloat16"}}),
        ("TRN04", "error", CARD, {"launch": {"adapter_dtype": "bfloat16"}, "training": {"fp16": True}}),
        ("TRN05", "error", CARD, {"training": {"eval_strategy": "epoch"}}),
        ("TRN05", "error", CARD, {"training": BEST}),
        ("TRN05", "error", CARD, {"evaluation": EVALUATION, "training": BEST}),
        ("TRN05", "error", CARD, {"evaluation": EVALUATION, "training": {**BEST, "eval_strategy": "epoch"}}),
        (
            "TRN05",
            "error",
            CARD,
            {"evaluation": EVALUATION, "training": {**BEST, "eval_strategy": "steps", "eval_steps": 10, "save_steps": 25}},
        ),
        ("TRN05", "info", CARD, {"evaluation": EVALUATION}),
        ("TRN06", "warning", CARD, {"training": {"packing": True, "packing_strategy": "wrapped"}}),
        ("TRN06", "error", CARD, {"training": {"packing": True, "max_length": None}}),
        ("TRN06", "error", CARD, {"training": {"padding_free": True}}),
        ("TRN08", "error", CARD, {"training": {"learning_rate": 2}}),
        ("TRN08", "warning", CARD, {"training": {"learning_rate": 2e-6}}),
        ("TRN08", "warning", CARD, {"training": {"learning_rate": 5e-3}}),
        ("TRN08", "warning", CARD, {"peft": None, "training": {"learning_rate": 2e-4}}),
        ("TRN08", "warning", CARD, {"task": "dpo", "rows": PAIRS, "columns": PAIR_COLUMNS, "training": {"learning_rate": 2e-4}}),
        ("TRN11", "warning", CARD, {"training": {"activation_checkpointing_kwargs": {"use_reentrant": True}}}),
        ("TRN11", "error", CARD, {"training": {"gradient_checkpointing_kwargs": {"use_reentrant": True, "selective": True}}}),
        ("TRN13", "info", CARD, {"load": {"dtype": "float32"}}),
        ("TRN14", "info", CARD, {"training": {"label_smoothing_factor": 0.1}}),
    ],
)
def test_what_document_and_headers_show_is_found_and_repaired(
    tmp_path: Path, tiny_model: Path, id: str, severity: str, card: Card, sections: dict[str, Any]
) -> None:
    place = plant(tmp_path, model=tiny_model, **sections)
    assert_found_and_repaired(place, id, severity, card)


@pytest.mark.parametrize(
    ("id", "severity", "sections"),
    [
        ("TRN01", "warning", {"training": {"num_train_epochs": 1}}),
        ("TRN01", "info", {"training": {"max_steps": 5}}),
        ("TRN02", "warning", {"training": {"warmup_steps": 20}}),
        ("TRN02", "warning", {"training": {"warmup_steps": 1.5}}),
        ("TRN02", "warning", {"training": {"warmup_steps": 0.7}}),
        ("TRN07", "warning", {"rows": LONG, "change": no_limit, "training": {"max_length": 512}}),
        ("TRN09", "warning", {"rows": [turns(f"the dog and the cat ran to {n} " * 4, f"yes {n}") for n in range(24)]}),
        ("TRN09", "warning", {"training": {"completion_only_loss": True}}),
        (
            "TRN09",
            "warning",
            {"rows": STRINGS, "columns": {"text": "text"}, "change": base_model, "training": {"completion_only_loss": True}},
        ),
        ("TRN09", "info", {}),
        (
            "TRN10",
            "info",
            {"task": "dpo", "rows": PAIRS, "columns": PAIR_COLUMNS, "training": {"gradient_accumulation_steps": 2, "learning_rate": 5e-6}},
        ),
        ("TRN15", "warning", {"training": {"save_steps": 100}}),
        ("TRN15", "warning", {"training": {"save_only_model": True}}),
        ("TRN16", "error", {"load": {"attn_implementation": "tt_varlen_of_nobody"}}),
    ],
)
def test_what_rows_and_model_show_is_found(tmp_path: Path, tiny_model: Path, id: str, severity: str, sections: dict[str, Any]) -> None:
    place = plant(tmp_path, model=tiny_model, **sections)
    report = check(place.recipe)
    assert (id, severity) in {(found.id, found.severity) for found in report.findings}
    repairs = [found.fix for found in report.findings if found.id == id and found.fix]
    if severity != "info" and repairs:
        assert {found.id for found in report.findings if found.severity != "info"} == {id}
        apply_fixes(place.recipe, report.text, repairs)
        assert alarms(check(place.recipe)) == []


@pytest.mark.parametrize(
    ("card", "sections"),
    [
        (CPU, {}),
        (T4, {}),
        (CPU, {"training": {"bf16": True}}),
        (T4, {"training": {"fp16": True}, "load": {"dtype": "float16"}}),
        (CARD, {"peft": None, "training": {"learning_rate": 1e-5}}),
        (CARD, {"peft": None, "load": {"dtype": "bfloat16"}, "training": {"learning_rate": 1e-5}}),
        (CARD, {"training": {"optim": "sgd", "learning_rate": 1e-2}}),
        (CARD, {"training": {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}}),
        (CARD, {"training": {"packing_strategy": "wrapped"}}),
        (CARD, {"training": {"padding_free": True, "max_length": None}}),
        (CARD, {"evaluation": EVALUATION, "training": {"eval_strategy": "no"}}),
        (CARD, {"evaluation": EVALUATION, "training": {**BEST, "eval_strategy": "steps", "eval_steps": 5, "save_strategy": "best"}}),
        (CARD, {"evaluation": EVALUATION, "training": {**BEST, "eval_strategy": "steps", "eval_steps": 0.1, "save_steps": 0.2}}),
        (CARD, {"task": "dpo", "rows": PAIRS, "columns": PAIR_COLUMNS, "training": {"learning_rate": 5e-6}}),
        (CARD, {"launch": {"gpus": 1}}),
    ],
)
def test_settings_that_only_look_like_faults_are_left_alone(tmp_path: Path, tiny_model: Path, card: Card, sections: dict[str, Any]) -> None:
    assert alarms(check_early(plant(tmp_path, model=tiny_model, **sections).recipe, card)) == []


@pytest.mark.parametrize(
    "sections",
    [
        {"evaluation": EVALUATION, "training": {**BEST, "eval_strategy": "steps", "eval_steps": 5, "save_steps": 10}},
        {"rows": sound_rows(160), "training": {"packing": True}},
        {"rows": sound_rows(80), "training": {"packing": True, "packing_strategy": "bfd_split", "max_length": 256}},
        {"training": {"warmup_steps": 3, "max_length": None}},
        {"training": {"warmup_steps": 40, "lr_scheduler_type": "constant"}},
        {"training": {"max_length": 100_000}},
        {"training": {"assistant_only_loss": True}},
        {"load": {"attn_implementation": "eager"}},
    ],
)
def test_runs_that_only_look_like_faults_are_left_alone(tmp_path: Path, tiny_model: Path, sections: dict[str, Any]) -> None:
    assert alarms(check(plant(tmp_path, model=tiny_model, **sections).recipe)) == []


@pytest.mark.parametrize(
    ("architecture", "id", "training"),
    [("bloom", "TRN06", {"packing": True}), ("gpt2", "TRN07", {"max_length": 512}), ("gpt2", "", {"max_length": 64}), ("gemma2", "", {})],
)
def test_other_architectures_are_judged_by_their_own_class(
    tmp_path: Path, tiny_model: Path, architecture: str, id: str, training: dict[str, Any]
) -> None:
    """BLOOM's ALiBi lets packed rows see each other; GPT-2 has a table of positions; Gemma 2 has no sdpa, and auto takes eager."""

    def become(model: Path) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM

        small = {"vocab_size": 448, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        more = {"gpt2": {"n_positions": 128}, "gemma2": {"num_key_value_heads": 2, "head_dim": 8}}.get(architecture, {})
        ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
        for file in ("model.safetensors", "generation_config.json"):
            (model / file).unlink()
        AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **small, **more, **ends)).save_pretrained(model)

    rows = [turns(f"the cat sat {n}", "the dog ran home " * 20 if id == "TRN07" else f"on the mat {n}") for n in range(48)]
    place = plant(tmp_path, model=tiny_model, rows=rows, change=become, training={**training, "num_train_epochs": 20})
    found = [f for f in check(place.recipe).findings if f.severity != "info"]
    assert {f.id for f in found if f.id.startswith("TRN")} == ({id} if id else set())
    if id == "TRN07":
        assert [f.severity for f in found if f.id == id] == ["error"]


def test_flash_attention_is_an_error_on_a_card_that_is_too_old(tmp_path: Path, tiny_model: Path) -> None:
    place = plant(tmp_path, model=tiny_model, load={"attn_implementation": "flash_attention_2"})
    assert "8.0 or newer" in finding(check(place.recipe, T4), "TRN16").message


def test_an_earlier_run_that_stopped_with_checkpoints_is_told(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = plant(tmp_path, model=tiny_model)
    (tmp_path / "work").mkdir()
    run = new_run(tmp_path / "work", "")
    manifest = read_manifest(run)
    manifest.state, manifest.step, manifest.recipe_path = "stopped", 40, str(place.recipe.resolve())
    write_manifest(run, manifest)
    (run.checkpoints / "checkpoint-40").mkdir(parents=True)
    shutil.move(run.path.parent, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    assert finding(check_early(place.recipe), "TRN15").evidence["step"] == 40


@pytest.mark.parametrize(
    "sections",
    [
        {"training": {"evaluation_strategy": "no"}},
        {"training": {"max_seq_length": 64, "max_length": None}},
        {"training": {"fp16": True, "bf16": True}},
    ],
)
def test_a_run_that_is_refused_trains_after_its_automatic_fix(tmp_path: Path, tiny_model: Path, sections: dict[str, Any]) -> None:
    place = plant(tmp_path, model=tiny_model, **sections)
    with pytest.raises(UserError):
        train_steps(place.recipe)
    assert fix(place.recipe, check_early(place.recipe))
    assert len(train_steps(place.recipe).each("loss")) == 2


def test_a_warm_up_that_never_ends_is_over_in_time_after_the_fix(tmp_path: Path, tiny_model: Path) -> None:
    place = plant(tmp_path, model=tiny_model, training={"warmup_steps": 300, "num_train_epochs": 2})
    assert max(train_steps(place.recipe, 0).each("learning_rate")) < 0.1 * 2e-4
    assert fix(place.recipe, check(place.recipe))
    assert max(train_steps(place.recipe, 0).each("learning_rate")) == pytest.approx(2e-4)


def test_wrapped_rows_have_the_loss_of_rows_apart_after_the_fix(tmp_path: Path, tiny_model: Path) -> None:
    """A whole set in one batch: packed as the fix says it has the loss that it has unpacked, wrapped it has another."""
    rows = [turns(f"the cat sat on a mat {n}", f"and the dog ran to {n * n}") for n in range(12)]
    whole = {"per_device_train_batch_size": 64, "max_length": 256}
    losses = {}
    for name, more in (("apart", {}), ("wrapped", {"packing": True, "packing_strategy": "wrapped"})):
        (tmp_path / name).mkdir()
        place = plant(tmp_path / name, model=tiny_model, rows=rows, training={**whole, **more})
        losses[name] = train_steps(place.recipe, 1).each("loss")[0]
    assert fix(place.recipe, check_early(place.recipe))
    fixed = train_steps(place.recipe, 1).each("loss")[0]
    assert fixed == pytest.approx(losses["apart"], abs=1e-5)
    assert abs(losses["wrapped"] - losses["apart"]) > 1e-4
