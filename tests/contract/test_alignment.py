"""The alignment of recipes on the tiny model: rows, ends, coverage, and that the weights are never loaded."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from safetensors.torch import load_file, save_file

from tests.support.planted import plant, turns
from tuitune.analyst.alignment import align
from tuitune.analyst.render_watch import RenderWatch
from tuitune.preflight.alignment import Alignment, TokenRow
from tuitune.recipe.recipe import load_recipe

NEW = {"tokenizer": {"add_special_tokens": ["<|tool|>"]}}


def aligned(folder: Path, model: Path, **sections: Any) -> Alignment:
    found = align(load_recipe(plant(folder, model=model, **sections).recipe), RenderWatch(), lambda text: None)
    return msgspec.convert(msgspec.json.decode(msgspec.json.encode(found)), Alignment, strict=False)


def row(found: Alignment, text: str) -> TokenRow:
    return next(token for token in found.tokens if token.text == text)


def test_tokens_rows_and_ends_stand_side_by_side(tmp_path: Path, tiny_model: Path) -> None:
    found = aligned(tmp_path, tiny_model)
    assert (found.vocabulary, found.largest, found.rows, found.tied, found.method) == (322, 321, 448, True, "LoRA")
    assert found.input is not None
    assert (found.input.rows, found.input.width, found.output) == (448, 64, None)
    assert {(token.text, token.id, *token.roles) for token in found.tokens} == {
        ("<|endoftext|>", 0),
        ("<|im_start|>", 1, "bos"),
        ("<|im_end|>", 2, "eos"),
        ("<|pad|>", 3, "pad"),
    }
    start = row(found, "<|im_start|>")
    assert (start.used, start.in_loss, start.trained) == (24, 24, False), "messages train on all turns"
    assert row(found, "<|endoftext|>").used == 0
    assert start.norm == pytest.approx(1, abs=0.5)
    assert start.nearest is not None
    assert -1 <= start.nearest[1] < 1
    eos = found.ends[0]
    assert (eos.tokenizer, eos.config, eos.generation, eos.agree) == (*[[(2, "<|im_end|>")]] * 3, True)
    assert found.notes == []
    assert not [token for token in found.tokens if token.faults]


def test_the_coverage_tree_says_what_is_trained_in_each_block(tmp_path: Path, tiny_model: Path) -> None:
    coverage = aligned(tmp_path, tiny_model, peft={"target_modules": ["q_proj", "v_proj"]}).coverage
    layers = next(block for block in coverage if block.first is not None)
    assert (layers.name, layers.first, layers.last, layers.count) == ("model.layers", 0, 1, 2)
    kinds = {part.name: part.kind for part in layers.parts}
    assert (kinds["self_attn.q_proj"], kinds["self_attn.k_proj"], kinds["input_layernorm"]) == ("trained", "frozen", "unreachable")
    assert next(part for part in layers.parts if part.name == "self_attn.q_proj").trained == 8 * (64 + 64)


def test_new_tokens_are_trained_in_rows_that_are_still_to_be_made(tmp_path: Path, tiny_model: Path) -> None:
    rows = [turns(f"<|tool|> how much is {n}?", f"It is {n}.") for n in range(8)]
    found = aligned(tmp_path, tiny_model, rows=rows, **NEW)
    new = row(found, "<|tool|>")
    assert (new.id, new.roles, new.present, new.used, new.trained, new.faults) == (322, ["new"], True, 8, True, [])
    assert row(found, "<|im_end|>").trained


def test_untrained_rows_in_use_are_named(tmp_path: Path, tiny_model: Path) -> None:
    def blank(model: Path) -> None:
        weights = load_file(model / "model.safetensors")
        weights["model.embed_tokens.weight"][1] = 0
        weights["model.embed_tokens.weight"][0] = weights["model.embed_tokens.weight"][2]
        save_file(weights, model / "model.safetensors", metadata={"format": "pt"})

    found = aligned(tmp_path, tiny_model, change=blank)
    assert (row(found, "<|im_start|>").norm, row(found, "<|im_start|>").nearest) == (0, None)
    assert "never trained (model.embed_tokens.weight: all zeros)" in row(found, "<|im_start|>").faults[0]
    assert row(found, "<|im_end|>").nearest == ("<|endoftext|>", 1.0)
    assert "the same row as token 0" in row(found, "<|im_end|>").faults[0]
    assert row(found, "<|endoftext|>").faults == [], "nothing uses it"


def test_what_cannot_be_looked_at_is_a_note(tmp_path: Path, tiny_model: Path) -> None:
    def no_weights(model: Path) -> None:
        (model / "model.safetensors").unlink()

    found = aligned(tmp_path / "weights", tiny_model, change=no_weights)
    assert (found.input, found.rows) == (None, None)
    assert row(found, "<|im_start|>").used == 24

    def refusing(model: Path) -> None:
        (model / "chat_template.jinja").write_text("{{ raise_exception('no conversation pleases me') }}")

    found = aligned(tmp_path / "rows", tiny_model, change=refusing)
    assert [note.partition(":")[0] for note in found.notes] == ["training rows"]
    assert row(found, "<|im_start|>").used is None
    assert row(found, "<|im_start|>").norm is not None


def test_an_end_that_generation_does_not_know_disagrees(tmp_path: Path, tiny_model: Path) -> None:
    def other_end(model: Path) -> None:
        (model / "generation_config.json").write_text('{"eos_token_id": [0], "bos_token_id": 1}')

    eos, pad, bos = aligned(tmp_path, tiny_model, change=other_end).ends
    assert (eos.role, eos.generation, eos.agree) == ("eos", [(0, "<|endoftext|>")], False)
    assert (pad.generation, pad.agree, bos.agree) == ([], True, True)


def test_the_weights_are_not_loaded(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("weights are loaded")

    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", refuse)
    monkeypatch.setattr("tuitune.analyst.alignment.SCAN", 0)
    found = aligned(tmp_path, tiny_model)
    assert found.sampled
    assert [token.text for token in found.tokens if token.nearest is None] == ["<|pad|>"], "its row is zero"
