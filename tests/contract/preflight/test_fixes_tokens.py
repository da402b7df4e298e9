"""Every automatic fix of tokenizer and embeddings, proven by real training steps on the CPU: wrong before, right after."""

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support.model_faults import adds_beginning, all_of, configs, row_of, rows, tokenizer_config, untied
from tests.support.planted import Place, check, finding, plant
from tuitune.preflight.repair import apply_fixes
from tuitune.recipe.recipe import load_recipe
from tuitune.runs.directory import create_run

STEPS = {"max_steps": 2, "logging_steps": 1, "save_strategy": "no", "learning_rate": 1e-2, "bf16": False, "padding_free": False}
TEXTS = [{"text": "the cat sat on a mat " * (1 + number % 3)} for number in range(12)]
ROWS = [{"messages": [{"role": "user", "content": "one " * n}, {"role": "assistant", "content": "two " * n}]} for n in range(1, 13)]
END = 2
_number = count()


@dataclass
class Workspace:
    """A planted workspace whose fault has a fix."""

    place: Place

    def fix(self, id: str) -> None:
        """Apply the automatic fix of this check's finding."""
        report = check(self.place.recipe)
        fix = finding(report, id).fix
        assert fix is not None
        assert fix.automatic
        apply_fixes(self.place.recipe, report.text, [fix])

    def trained(self) -> Any:
        """The real trainer, after its steps."""
        from tuitune.trainer.build import build

        run = create_run(self.place.recipe.parent / f"runs-{next(_number)}", "test", self.place.recipe.read_text())
        trainer = build(load_recipe(self.place.recipe), run).trainer
        trainer.train()
        return trainer


def workspace(folder: Path, model: Path, **planted: Any) -> Workspace:
    """With longer and shorter rows, so that batches are padded."""
    return Workspace(plant(folder, model=model, training=STEPS, launch={"gpus": "cpu"}, **{"rows": ROWS, **planted}))


def losses(trainer: Any) -> list[float]:
    return [record["loss"] for record in trainer.state.log_history if "loss" in record]


def test_tok02_padding_without_a_row_crashes_and_then_trains(tmp_path: Path, tiny_model: Path) -> None:
    fault = all_of(rows(322), tokenizer_config(pad_token="[PAD]"))
    here = workspace(tmp_path, tiny_model, change=fault)
    with pytest.raises(IndexError, match="out of range"):
        here.trained()
    here.fix("TOK02")
    assert losses(here.trained())


@pytest.mark.parametrize(("id", "pad"), [("TOK03", None), ("TOK04", "<|im_end|>")])
def test_tok03_tok04_ends_of_answers_are_lost_to_other_collators_and_then_are_not(
    id: str, pad: str | None, tmp_path: Path, tiny_model: Path
) -> None:
    """TRL itself learns them either way, which is why both are only information."""
    here = workspace(tmp_path, tiny_model, change=tokenizer_config(pad_token=pad))
    before = here.trained()
    assert ends_learnt(before) == 0
    assert ends_learnt(before, before.data_collator) > 0
    here.fix(id)
    after = here.trained()
    assert ends_learnt(after) > 0
    assert ends_learnt(after, after.data_collator) > 0


def ends_learnt(trainer: Any, collator: Any = None) -> int:
    """Labels that are the end token, in a batch of transformers' language-modelling collator (or another)."""
    from transformers import DataCollatorForLanguageModeling

    examples = [{"input_ids": row["input_ids"]} if collator is None else row for row in trainer.train_dataset.select(range(4))]
    make = collator or DataCollatorForLanguageModeling(trainer.processing_class, mlm=False)
    return int((make(examples)["labels"] == END).sum())


def test_tok07_the_trained_model_stops_at_the_end_of_a_turn(tmp_path: Path, tiny_model: Path) -> None:
    here = workspace(tmp_path, tiny_model, change=all_of(tokenizer_config(eos_token="<|endoftext|>"), configs(eos_token_id=0)))
    assert END not in stops(here.trained())
    here.fix("TOK07")
    after = here.trained()
    assert END in stops(after)
    assert after.processing_class.eos_token_id == END


def stops(trainer: Any) -> list[int]:
    """Where the trained model's generation stops."""
    found = trainer.model.generation_config.eos_token_id
    return found if isinstance(found, list) else [found]


def test_tok08_texts_end_with_the_models_own_token(tmp_path: Path, tiny_model: Path) -> None:
    here = workspace(tmp_path, tiny_model, rows=TEXTS, columns={"text": "text"}, change=tokenizer_config(eos_token="<|endoftext|>"))
    assert {row[-1] for row in here.trained().train_dataset["labels"]} == {0}
    here.fix("TOK08")
    assert {row[-1] for row in here.trained().train_dataset["labels"]} == {END}


def test_tok09_texts_begin_once(tmp_path: Path, tiny_model: Path) -> None:
    doubled = [{"text": "<|endoftext|>" + row["text"]} for row in TEXTS]
    here = workspace(tmp_path, tiny_model, rows=doubled, columns={"text": "text"}, change=adds_beginning)
    assert {tuple(row[:2]) for row in here.trained().train_dataset["input_ids"]} == {(0, 0)}
    here.fix("TOK09")
    assert all(row[0] == 0 and row[1] != 0 for row in here.trained().train_dataset["input_ids"])


@pytest.mark.parametrize("tied", [True, False])
def test_emb05_rows_of_new_tokens_learn_on_both_sides_and_are_saved(tied: bool, tmp_path: Path, tiny_model: Path) -> None:
    from safetensors import safe_open

    zeros = row_of([END], lambda table: table[0] * 0)
    here = workspace(tmp_path, tiny_model, change=zeros if tied else all_of(untied, zeros))
    before = here.trained().model
    assert not before.get_input_embeddings().weight[END].any()
    assert not any(parameter.requires_grad for parameter in before.get_output_embeddings().parameters())
    here.fix("EMB05")
    trainer = here.trained()
    first, last = (module.modules_to_save["default"].weight for module in tables(trainer.model))
    assert first[END].any()
    assert first.requires_grad
    assert last.requires_grad
    assert (first.data_ptr() == last.data_ptr()) == tied
    trainer.save_model(str(tmp_path / "adapter"))
    with safe_open(str(tmp_path / "adapter" / "adapter_model.safetensors"), framework="pt") as saved:
        names = list(saved.keys())
        assert any("embed_tokens" in name for name in names)
        assert any("lm_head" in name for name in names) or tied


def tables(model: Any) -> list[Any]:
    """peft's wrappers of the two embeddings."""
    return [module for name, module in model.named_modules() if name.endswith(("embed_tokens", "lm_head"))]
