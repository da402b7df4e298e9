"""Chat templates with one fault each, real ones by name, and a tiny model that knows their markers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.real_tokenizers import Unreachable, folder_of

TURN = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
END = "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
PLAIN = f"{TURN}{{{{ m['content'] }}}}{END}"
NO_END = PLAIN.replace("<|im_end|>", "")
OTHER_END = PLAIN.replace("<|im_end|>", "<|stop_here|>")
END_OUTSIDE = (
    f"{TURN}{{% if m['role'] == 'assistant' %}}{{% generation %}}{{{{ m['content'] }}}}{{% endgeneration %}}"
    f"{{% else %}}{{{{ m['content'] }}}}{{% endif %}}{END}"
)
NOTHING_MARKED = END_OUTSIDE.replace("== 'assistant'", "== 'model'")
ALL_MARKED = (
    "{% for m in messages %}{% generation %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endgeneration %}{% endfor %}"
)
THINKING = f"{PLAIN.removesuffix('{% endif %}')}<think>\n{{% endif %}}"  # the prompt has what the whole conversation has not
DATED = (
    "{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
    f"<|im_start|>system\nIt is {{{{ date_string }}}}.<|im_end|>\n{PLAIN}"
)
BRACKETS = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
STANDING = DATED.replace("strftime_now('%d %b %Y')", "'26 Jul 2024'")
MARKERS = (
    "<start_of_turn> <end_of_turn> <|begin_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|> <think> </think> "
    "<tool_call> </tool_call> <tool_response> </tool_response> <｜User｜> <｜Assistant｜> <｜end▁of▁sentence｜> "
    "<|start|> <|end|> <|message|> <|channel|> <|return|> <|call|>"
).split()
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 3, "b": "four"}}}


def model_with_markers(tiny_model: Path, folder: Path) -> Path:
    """The tiny model, its tokenizer with MARKERS; the embedding has room for them."""
    import transformers

    shutil.copytree(tiny_model, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKERS)})
    tokenizer.save_pretrained(folder)
    return folder


def template_of(name: str) -> str:
    """The template of a real tokenizer (tests.support.real_tokenizers), or of a file of TRL's (name.jinja)."""
    if name.endswith(".jinja"):
        import trl

        return (Path(trl.__file__).parent / "chat_templates" / name).read_text(encoding="utf-8")
    try:
        folder = folder_of(name)
    except Unreachable as error:
        pytest.skip(str(error))
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text(encoding="utf-8")
    found: str = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["chat_template"]
    return found


def having(template: str) -> Callable[[Path], object]:
    """Changes a model's folder: its template is this one."""
    return lambda model: (model / "chat_template.jinja").write_text(template, encoding="utf-8")


def small(name: str, folder: Path) -> Path:
    """A real tokenizer and the small architecture of its vocabulary's size, without weights."""
    try:
        real = folder_of(name)
    except Unreachable as error:
        pytest.skip(str(error))
    folder.mkdir()
    for file in real.iterdir():
        if file.is_file():
            (folder / file.name).symlink_to(file)
    (folder / "config.json").unlink()
    shutil.copy(real / "tiny" / "config.json", folder)
    return folder


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    """A turn."""
    return {"role": role, "content": content, **more}


def talks(*turns: tuple[str, str], count: int = 24, **answer: Any) -> list[dict[str, Any]]:
    """Rows of these (role, content) turns; {n} in a text is the row's number; `answer`: more keys of the assistant's turns."""

    def turn(role: str, content: str, n: int) -> dict[str, Any]:
        more = answer if role == "assistant" else {}
        return {key: value.replace("{n}", str(n)) for key, value in said(role, content, **more).items()}

    return [{"messages": [turn(role, content, n) for role, content in turns]} for n in range(count)]
