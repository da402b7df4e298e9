"""A template is taken apart only when its pieces make every conversation again; the pieces become Ollama's template."""

import re
from pathlib import Path

import jinja2
import pytest

from tuitune.after.snippets import Served, go_template, modelfile, snippets
from tuitune.after.turns import Pieces, Turns, take_apart

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DEFAULT = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe useful.<|im_end|>\n{% endif %}" + CHATML
LLAMA = (
    "<s>{% for m in messages %}<|h|>{{ m.role }}<|/h|>\n\n{{ m.content | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|h|>assistant<|/h|>\n\n{% endif %}"
)
INST = (
    "<s>{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}</s>{% else %}{{ raise_exception('no system') }}{% endif %}{% endfor %}"
)
DATED = "Now is {{ messages | length }}. " + CHATML


def render_with(template: str):  # type: ignore[no-untyped-def]
    compiled = jinja2.Environment().from_string(template)

    def render(turns: Turns, ask: bool) -> str:
        return compiled.render(messages=turns, add_generation_prompt=ask)

    return render


def ollama(template: str, turns: Turns) -> str:
    """What Ollama makes of a template of ours, in the few words of its language that we use."""
    before, loop, ask = re.fullmatch(r"(.*?)\{\{ range \.Messages \}\}(.*)\{\{ end \}\}(.*?)", template, re.DOTALL).groups()  # type: ignore[union-attr]
    opening = re.fullmatch(r'(?:\{\{ if ne \(index \.Messages 0\)\.Role "system" \}\}(.*)\{\{ end \}\})?', before, re.DOTALL)
    assert opening is not None
    text = (opening[1] or "") if turns[0]["role"] != "system" else ""
    for turn in turns:
        branch = re.search(rf'if eq \.Role "{turn["role"]}" \}}\}}(.*?)\{{\{{ (?:else|end)', loop, re.DOTALL)
        assert branch is not None
        text += branch[1].replace("{{ .Content }}", turn["content"])
    return text + ask


@pytest.mark.parametrize("template", [CHATML, DEFAULT, LLAMA])
def test_the_pieces_and_ollamas_template_say_what_the_trained_one_says(template: str) -> None:
    render = render_with(template)
    pieces = take_apart(render)
    assert pieces is not None
    turns = [{"role": role, "content": text} for role, text in [("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "c")]]
    for talk in (turns, turns[1:], turns[1:2]):
        assert pieces.render(talk, True) == render(talk, True)
        made = go_template(pieces)
        assert made is not None
        assert ollama(made, talk) == render(talk, True)


def test_a_server_that_puts_the_first_token_itself_gets_a_template_without_it() -> None:
    pieces = take_apart(render_with(LLAMA))
    assert pieces is not None
    made = go_template(pieces, bos="<s>")
    assert made is not None
    assert ollama(made, [{"role": "user", "content": "a"}]) == "<|h|>user<|/h|>\n\na<|eot|><|h|>assistant<|/h|>\n\n"


@pytest.mark.parametrize("template", [DATED, INST, "{{ messages }}", "{{ raise }"])
def test_a_template_that_is_more_than_pieces_is_not_taken_apart(template: str) -> None:
    try:
        render = render_with(template)
    except jinja2.TemplateSyntaxError:
        return
    assert take_apart(render) is None


def test_texts_that_would_be_code_in_the_other_language_give_no_template() -> None:
    pieces = Pieces("", None, ("{{ .Secret }}", "\n"), ("", "\n"), "A:")
    assert go_template(pieces) is None
    text = modelfile(Served("it", "base", gguf=Path("/x/it.gguf"), pieces=pieces))
    assert "TEMPLATE" not in text
    assert "more than fixed texts" in text


def test_the_snippets_have_the_real_paths_and_names(tmp_path: Path) -> None:
    adapter = tmp_path / "my run" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "chat_template.jinja").write_text(CHATML)
    served = Served("my run", "org/base", adapter, tmp_path / "merged", tmp_path / "it.gguf", 12, stops=("<|im_end|>",), context=8192)
    files = snippets(served)
    assert f"vllm serve org/base --enable-lora --lora-modules my-run='{adapter}' --max-lora-rank 16" in files["serve-vllm-lora.sh"]
    assert f"--chat-template '{adapter}/chat_template.jinja'" in files["serve-vllm-lora.sh"]
    assert f"vllm serve {tmp_path}/merged --served-model-name my-run" in files["serve-vllm.sh"]
    assert f"llama-server -m {tmp_path}/it.gguf --alias my-run -c 8192 --jinja" in files["serve-llama.cpp.sh"]
    assert files["Modelfile"].splitlines()[1] == f"FROM {tmp_path}/it.gguf"
    assert 'PARAMETER stop "<|im_end|>"' in files["Modelfile"]


def test_an_adapter_with_whole_embeddings_is_not_served_as_lora() -> None:
    assert "serve the merged model" in snippets(Served("it", "base", Path("/a"), whole=True))["serve-vllm-lora.sh"]
