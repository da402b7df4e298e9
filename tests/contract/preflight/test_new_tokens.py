"""New tokens in a recipe are no fault: preflight counts the rows they get, and names what would leave them unlearnt."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.planted import Place, alarms, check, finding, ids, plant, turns
from tests.support.real_tokenizers import folder_of
from tuitune.preflight.repair import apply_fixes

NEW = {"add_special_tokens": ["<|tool|>", "<|call|>"]}


def rows() -> list[dict[str, Any]]:
    return [turns(f"<|tool|> how much is {n} and {n + 3}?", f"Adding {n} to {n + 3} <|call|> gives {2 * n + 3}.") for n in range(24)]


def cut_to_tokenizer(model: Path) -> None:
    """No spare row is left."""
    import transformers

    made = transformers.AutoModelForCausalLM.from_pretrained(model)
    made.resize_token_embeddings(len(transformers.AutoTokenizer.from_pretrained(model)))
    made.save_pretrained(model)


def planted(folder: Path, model: Path, **sections: Any) -> Place:
    return plant(folder, model=model, rows=rows(), change=cut_to_tokenizer, **{"tokenizer": NEW, **sections})


def test_declared_tokens_raise_no_alarm_and_undeclared_ids_beyond_the_rows_do(tmp_path: Path, tiny_model: Path) -> None:
    report = check(planted(tmp_path / "declared", tiny_model).recipe)
    assert alarms(report) == []
    assert {"TOK01", "PEFT09"} <= set(report.ran)

    def forget_the_rows(model: Path) -> None:
        cut_to_tokenizer(model)
        document = json.loads((model / "tokenizer.json").read_text())
        document["added_tokens"].append({**document["added_tokens"][0], "id": 322, "content": "<|tool|>"})
        (model / "tokenizer.json").write_text(json.dumps(document))

    report = check(plant(tmp_path / "forgotten", model=tiny_model, rows=rows(), change=forget_the_rows).recipe)
    assert finding(report, "TOK01").evidence["id"] == 322


@pytest.mark.parametrize(
    "peft",
    [
        {"modules_to_save": ["norm"]},
        {"ensure_weight_tying": False},
        {"trainable_token_indices": [5]},
        {"target_modules": ["q_proj", "embed_tokens"]},
    ],
    ids=lambda peft: next(iter(peft)),
)
def test_what_would_leave_them_unlearnt_is_found_and_mended(tmp_path: Path, tiny_model: Path, peft: dict[str, Any]) -> None:
    place = planted(tmp_path, tiny_model, peft=peft)
    report = check(place.recipe)
    found = finding(report, "PEFT04" if "trainable_token_indices" in peft else "PEFT09")
    (key,) = peft
    assert (found.severity, found.where.key) == ("error", f"peft.{key}")
    assert found.fix is not None
    apply_fixes(place.recipe, report.text, [found.fix])
    assert alarms(check(place.recipe)) == []


@pytest.mark.parametrize("tokens", [["<|im_start|>"], ["<|tool|>", "the"]])
def test_a_token_that_is_there_already_is_refused(tmp_path: Path, tiny_model: Path, tokens: list[str]) -> None:
    report = check(plant(tmp_path, model=tiny_model, tokenizer={"add_special_tokens": tokens}).recipe)
    assert "is a token of this tokenizer already" in finding(report, "PRE01").message


def test_a_text_that_is_no_token_is_an_error_of_the_recipe(tmp_path: Path, tiny_model: Path) -> None:
    report = check(plant(tmp_path, model=tiny_model, tokenizer={"add_special_tokens": ["<a>", "<a>", " "]}).recipe)
    assert [found.where.key for found in report.findings if found.id == "RCP026"] == [
        "tokenizer.add_special_tokens[1]",
        "tokenizer.add_special_tokens[2]",
    ]


@pytest.mark.parametrize("name", ["smollm2", "qwen3"])
def test_real_tokenizers_take_new_tokens(tmp_path: Path, name: str) -> None:
    """smollm2 has no spare row, qwen3 has 267."""
    model = folder_of(name)
    if model is None:
        pytest.skip(f"the tokenizer of {name} cannot be had here")
    report = check(plant(tmp_path, model=model, rows=rows(), tokenizer=NEW).recipe)
    assert not {"TOK01", "EMB05", "PEFT03", "PEFT09", "PRE01"} & ids(report)


def test_an_adapter_that_brought_new_tokens_fits_its_base(tmp_path: Path, tiny_model: Path) -> None:
    """What a run with new tokens leaves behind: an adapter with 384 rows for a base of 322, its tokenizer beside it."""
    import peft
    import transformers

    first = planted(tmp_path / "first", tiny_model)
    model = transformers.AutoModelForCausalLM.from_pretrained(first.model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(first.model)
    tokenizer.add_special_tokens({"extra_special_tokens": NEW["add_special_tokens"]})
    model.resize_token_embeddings(384)
    whole = {"modules_to_save": ["embed_tokens", "lm_head"], "ensure_weight_tying": True, "task_type": "CAUSAL_LM"}
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", **whole))
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    tokenizer.save_pretrained(tmp_path / "adapter")
    place = plant(tmp_path / "second", model=first.model, rows=rows())
    written = place.recipe.read_text().replace("name_or_path: ./model", f"name_or_path: ./model\n  adapter: {tmp_path / 'adapter'}")
    place.recipe.write_text(re.sub(r"^peft:\n(  .*\n)+", "", written, flags=re.MULTILINE))
    assert alarms(check(place.recipe)) == []
    (tmp_path / "adapter" / "tokenizer.json").unlink()
    (tmp_path / "adapter" / "tokenizer_config.json").unlink()
    assert "PEFT08" in ids(check(place.recipe), "error")
