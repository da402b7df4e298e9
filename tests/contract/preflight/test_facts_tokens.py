"""What the checks of tokenizer and embeddings lean on in the libraries; an upgrade that changes one of these fails here, loudly."""

import inspect
import json
from pathlib import Path
from typing import Any

import jinja2
import pytest

from tests.support.model_faults import all_of, configs, in_json, row_of, tokenizer_config, untied, weights
from tuitune.preflight.model_files import TIED, UNTIED

transformers = pytest.importorskip("transformers")
trl = pytest.importorskip("trl")


@pytest.fixture
def model(tmp_path: Path, tiny_model: Path) -> Path:
    """A copy to change."""
    import shutil

    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_classes_tie_their_embeddings_by_default_as_the_table_says() -> None:
    """EMB02, ModelFiles.tied."""
    known = {kind for kind in TIED | UNTIED if kind in transformers.CONFIG_MAPPING}  # an older transformers lacks some
    assert len(known) > 60
    assert {kind for kind in known if transformers.AutoConfig.for_model(kind).tie_word_embeddings} == TIED & known


def test_a_declared_token_that_is_not_in_the_vocabulary_is_added_at_the_end(model: Path) -> None:
    """TOK02."""
    tokenizer_config(pad_token="[PAD]")(model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    assert tokenizer.pad_token_id == len(tokenizer) - 1 == 322


def test_trl_pads_with_the_end_token_and_learns_it_all_the_same() -> None:
    """TOK03, TOK04: the end stays in the labels of TRL's collator; transformers' own takes every padding id out."""
    rows = [{"input_ids": [5, 2], "labels": [5, 2]}, {"input_ids": [5, 6, 7, 2], "labels": [5, 6, 7, 2]}]
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    batch = DataCollatorForLanguageModeling(pad_token_id=2)(rows)
    assert int((batch["labels"] == 2).sum()) == 2
    assert "self._tokenizer.pad_token or self._tokenizer.eos_token" in inspect.getsource(trl.SFTTrainer.__init__)


def test_trl_pads_on_the_right_whatever_the_tokenizer_says() -> None:
    """TOK15."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    batch = DataCollatorForLanguageModeling(pad_token_id=3)([{"input_ids": [5], "labels": [5]}, {"input_ids": [5, 6], "labels": [5, 6]}])
    assert batch["input_ids"].tolist() == [[5, 3], [5, 6]]


def test_the_trainer_adds_the_tokenizers_end_token_to_the_models_configuration() -> None:
    """TOK07, TOK08: ids that generation stops at are kept, one is added."""
    source = inspect.getsource(transformers.trainer_utils.align_special_tokens)
    assert "eos_token_id" in source
    assert "align_special_tokens" in inspect.getsource(transformers.Trainer)


def test_settings_of_the_config_file_do_not_change_a_tokenizer_json(model: Path) -> None:
    """TOK10."""
    tokenizer_config(add_bos_token=True)(model)
    assert transformers.AutoTokenizer.from_pretrained(model)("the")["input_ids"][0] != 1


def test_some_classes_rebuild_the_rules_and_one_does_not(model: Path) -> None:
    """TOK11."""
    tokenizer_config(tokenizer_class="GemmaTokenizer", unk_token="<|endoftext|>")(model)
    other = transformers.AutoTokenizer.from_pretrained(model)
    assert other.decode(other("the cat")["input_ids"]) != "the cat"
    tokenizer_config(tokenizer_class="TokenizersBackend")(model)
    plain = transformers.AutoTokenizer.from_pretrained(model)
    assert plain.decode(plain("the cat")["input_ids"]) == "the cat"


def test_tekken_is_taken_as_soon_as_mistral_common_is_installed() -> None:
    """TOK17."""
    from transformers.integrations.mistral.tokenizer import resolve_mistral_format

    assert "regardless of" in " ".join((inspect.getdoc(resolve_mistral_format) or "").split())


def test_missing_special_tokens_are_undefined_in_a_template(model: Path) -> None:
    """TOK18: joined with + it fails, printed it is nothing; and the compiled template gives its environment away."""
    tokenizer_config(bos_token=None)(model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    said = [{"role": "user", "content": "x"}]
    assert tokenizer.apply_chat_template(said, chat_template="{{ bos_token }}|", tokenize=False) == "|"
    with pytest.raises(jinja2.UndefinedError, match="'bos_token' is undefined"):
        tokenizer.apply_chat_template(said, chat_template="{{ bos_token + '' }}", tokenize=False)
    compiled = transformers.utils.chat_template_utils._compile_jinja_template("{{ eos_token }}")
    assert isinstance(compiled.environment, jinja2.Environment)


def load(model: Path, **arguments: Any) -> tuple[Any, dict[str, Any]]:
    loaded, told = transformers.AutoModelForCausalLM.from_pretrained(model, output_loading_info=True, **arguments)
    return loaded, told


def test_another_number_of_rows_than_vocab_size_is_refused(model: Path) -> None:
    """EMB01."""
    in_json("config.json", vocab_size=512)(model)
    with pytest.raises(RuntimeError):
        load(model)


def test_a_missing_head_of_an_untied_model_is_random_and_nothing_stops(model: Path) -> None:
    """EMB02."""
    in_json("config.json", tie_word_embeddings=False)(model)
    assert load(model)[1]["missing_keys"] == {"lm_head.weight"}


def test_a_different_head_of_a_tied_model_is_not_tied(model: Path) -> None:
    """EMB03: an equal one is."""

    def add_head(change: float) -> Any:
        return weights(lambda tensors: tensors.update({"lm_head.weight": tensors["model.embed_tokens.weight"] + change}))

    for change, tied in ((0.0, True), (0.5, False)):
        add_head(change)(model)
        loaded, _ = load(model)
        assert (loaded.lm_head.weight.data_ptr() == loaded.model.embed_tokens.weight.data_ptr()) == tied


def test_the_padding_row_of_a_new_model_is_zeros(model: Path) -> None:
    """EMB04: nn.Embedding(padding_idx)."""
    made = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(model))
    assert made.get_input_embeddings().padding_idx == 3
    assert not made.get_input_embeddings().weight[3].any()


def test_rows_that_a_resize_adds_are_about_the_mean(model: Path) -> None:
    """EMB04."""
    import torch

    loaded, _ = load(model)
    mean = loaded.get_input_embeddings().weight.mean(0)
    loaded.resize_token_embeddings(450)
    new = loaded.get_input_embeddings().weight[449]
    assert torch.nn.functional.cosine_similarity(new, mean, dim=0) > 0.999


def test_loading_onto_the_meta_device_reports_what_a_real_load_reports(model: Path) -> None:
    """EMB08."""
    import torch

    from tuitune.analyst.meta_model import load_report
    from tuitune.preflight.model_files import ModelFiles

    def mix_up(tensors: dict[str, Any]) -> None:
        tensors["extra.weight"] = tensors.pop("model.norm.weight")

    all_of(untied, weights(mix_up))(model)
    loaded, told = load(model)
    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(loaded.config)
    report = load_report(empty, ModelFiles(model).tensors)
    assert report.missing == sorted(told["missing_keys"]) == ["model.norm.weight"]
    assert report.unexpected == sorted(told["unexpected_keys"]) == ["extra.weight"]


def test_fused_experts_are_judged_as_the_loader_does(tmp_path: Path) -> None:
    """EMB08: Mixtral's files have one tensor an expert, the model has them fused."""
    import torch

    from tuitune.analyst.meta_model import load_report
    from tuitune.preflight.model_files import ModelFiles

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = transformers.MixtralConfig(vocab_size=64, num_local_experts=2, **small)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(config)
    report = load_report(empty, ModelFiles(tmp_path).tensors)
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], [])


def test_another_quantisation_than_the_checkpoints_is_refused() -> None:
    """EMB10."""
    from transformers.quantizers.auto import AutoHfQuantizer

    wanted = transformers.BitsAndBytesConfig(load_in_4bit=True)
    with pytest.raises(ValueError, match="is quantized with"):
        AutoHfQuantizer.merge_quantization_configs({"quant_method": "gptq", "bits": 4}, wanted)
    assert "purely quantized" in inspect.getsource(transformers.trainer_utils.validate_quantization_for_training)


def test_generation_stops_by_config_json_when_there_is_no_generation_config(model: Path) -> None:
    """TOK07: configured_ends."""
    configs(eos_token_id=[0, 2])(model)
    (model / "generation_config.json").unlink()
    assert load(model)[0].generation_config.eos_token_id == [0, 2]
    assert json.loads((model / "config.json").read_text())["eos_token_id"] == [0, 2]


def test_rows_are_read_as_they_are_stored(model: Path) -> None:
    """safetensors' slices, on which EMB04 to EMB06 stand."""
    from tuitune.analyst.token_facts import read_rows
    from tuitune.preflight.model_files import ModelFiles

    row_of([7], lambda table: table[7] * 0 + 1.5)(model)
    tensor = ModelFiles(model).input_embedding
    assert tensor is not None
    assert read_rows(tensor, [7]).unique().tolist() == [1.5]
