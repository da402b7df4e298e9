"""What the template's checks take for granted of transformers and TRL. An upgrade that changes one of these changes a check's rule."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import transformers
import transformers.utils.chat_template_utils as transformers_templates
from jinja2 import TemplateError
from trl.chat_template_utils import get_training_chat_template, is_chat_template_stop_token_trained, supports_tool_calling

from tests.support import templates as t
from tests.support.templates import said, template_of
from tests.support.versions import newer_transformers

TALK = [said("user", "How much is 2?"), said("assistant", "It is 2.")]


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(tiny_model)


def test_the_jinja_file_wins_over_the_config(tiny_model: Path, tmp_path: Path) -> None:
    transformers.AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": "config"}))
    (tmp_path / "chat_template.jinja").write_text("file")
    assert transformers.AutoTokenizer.from_pretrained(tmp_path).chat_template == "file"
    (tmp_path / "chat_template.jinja").unlink()
    assert transformers.AutoTokenizer.from_pretrained(tmp_path).chat_template == "config"


def test_of_named_templates_only_default_is_chosen_and_tool_use_with_tools(tokenizer: Any) -> None:
    tokenizer.chat_template = {"rag": "r", "tool_use": "t"}
    with pytest.raises(ValueError, match="default"):
        tokenizer.get_chat_template()
    assert tokenizer.get_chat_template(tools=[{}]) == "t"
    tokenizer.chat_template["default"] = "d"
    assert tokenizer.get_chat_template() == "d"


def test_without_a_template_transformers_refuses(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="chat_template is not set"):
        tokenizer.apply_chat_template(TALK)


@newer_transformers
def test_keys_without_a_value_are_not_there_for_a_template(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% for m in messages %}{{ m.content is defined }}{% endfor %}"
    assert tokenizer.apply_chat_template([said("assistant", None)], tokenize=False) == "False"


@newer_transformers
@pytest.mark.parametrize("name", ["reasoning", "reasoning_content", "thinking"])
def test_reasoning_has_three_names_of_which_templates_read_two(tokenizer: Any, name: str) -> None:
    tokenizer.chat_template = "{% for m in messages %}{{ m.reasoning_content }}, {{ m.thinking }}{% endfor %}"
    assert tokenizer.apply_chat_template([said("assistant", "", **{name: "hm"})], tokenize=False) == "hm, hm"


def test_strftime_now_asks_the_datetime_of_its_module(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Then(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Then":
            return cls(2001, 2, 3)

    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}"
    assert tokenizer.apply_chat_template(TALK, tokenize=False) == datetime.now().strftime("%d %b %Y")
    monkeypatch.setattr(transformers_templates, "datetime", Then)
    assert tokenizer.apply_chat_template(TALK, tokenize=False) == "03 Feb 2001"


@pytest.mark.parametrize("name", ["llama3_1", "llama3_1.jinja", "llama3_2.jinja", "qwen3", "smollm2"])
def test_trl_knows_no_variant_of_stock_templates_that_are_not_its_own_to_the_byte(tokenizer: Any, name: str) -> None:
    tokenizer.chat_template = template_of(name)
    if name == "llama3_1":  # equal to the one that TRL calls llama3
        assert get_training_chat_template(tokenizer) is not None
        tokenizer.chat_template += " "
    with pytest.raises(ValueError, match="not training-compatible"):
        get_training_chat_template(tokenizer)


@pytest.mark.parametrize("name", ["qwen3.jinja", "gemma.jinja", "llama3.jinja", "qwen2_5.jinja"])
def test_trl_has_variants_that_say_what_the_assistant_writes(tokenizer: Any, name: str) -> None:
    tokenizer.chat_template = template_of(name)
    assert "{% generation %}" in (get_training_chat_template(tokenizer) or "")


def test_trl_tells_whether_the_end_is_in_the_mask(tokenizer: Any) -> None:
    assert is_chat_template_stop_token_trained(tokenizer)
    assert not is_chat_template_stop_token_trained(tokenizer, chat_template=t.END_OUTSIDE)


@pytest.mark.parametrize(
    ("name", "knows"), [("qwen3", True), ("llama3_1.jinja", True), ("llama3", False), ("gemma", False), ("deepseek_v3", False)]
)
def test_which_stock_templates_print_tool_calls(tokenizer: Any, name: str, knows: bool) -> None:
    tokenizer.chat_template = template_of(name)
    assert supports_tool_calling(tokenizer) is knows


def test_gemma_refuses_system_turns_and_wants_alternation(tokenizer: Any) -> None:
    tokenizer.chat_template = template_of("gemma")
    with pytest.raises(TemplateError, match="System role not supported"):
        tokenizer.apply_chat_template([said("system", "Be brief."), *TALK])
    with pytest.raises(TemplateError, match="must alternate"):
        tokenizer.apply_chat_template([TALK[0], *TALK])
