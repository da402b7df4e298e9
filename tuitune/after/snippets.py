"""How to serve a result: small files with its real paths and names for vLLM, llama.cpp and Ollama. Plain text, no library."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tuitune.after.turns import Pieces

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM's --max-lora-rank takes


@dataclass(frozen=True)
class Served:
    """What there is to serve; a path is None where there is none. `rank`: of the adapter; `whole`: it brings whole embeddings
    (modules_to_save); `stops`: texts of the stop tokens; `context`: tokens the model takes; `bos`: the text that the server itself puts
    first."""

    name: str
    base: str
    adapter: Path | None = None
    merged: Path | None = None
    gguf: Path | None = None
    rank: int | None = None
    whole: bool = False
    pieces: Pieces | None = None
    stops: Sequence[str] = ()
    context: int | None = None
    bos: str = ""


def snippets(served: Served) -> dict[str, str]:
    """File name → text."""
    files = {}
    if served.adapter is not None:
        files["serve-vllm-lora.sh"] = _vllm_lora(served)
    if served.merged is not None:
        files["serve-vllm.sh"] = _script(
            "The merged model with vLLM.", f"vllm serve {_q(served.merged)} --served-model-name {_name(served)}"
        )
    if served.gguf is not None:
        context = f" -c {served.context}" if served.context else ""
        line = f"llama-server -m {_q(served.gguf)} --alias {_name(served)}{context} --jinja"
        files["serve-llama.cpp.sh"] = _script("The GGUF file with llama.cpp; --jinja: the template in the file itself.", line)
        files["Modelfile"] = modelfile(served)
    return files


def modelfile(served: Served) -> str:
    """For Ollama: `ollama create NAME -f Modelfile`."""
    assert served.gguf is not None
    lines = [f"# ollama create {_name(served)} -f Modelfile", f"FROM {served.gguf}"]
    template = None if served.pieces is None else go_template(served.pieces, served.bos)
    if template is None:
        lines += [
            "# The trained template is more than fixed texts round the turns, so none is written here: Ollama takes the one it knows for",
            "# the template in the GGUF file. Compare its answers with `tuitune chat` before you rely on it.",
        ]
    else:
        lines.append(f'TEMPLATE """{template}"""')
    lines += [f'PARAMETER stop "{stop}"' for stop in served.stops if '"' not in stop and "\n" not in stop]
    if served.context:
        lines.append(f"PARAMETER num_ctx {served.context}")
    return "\n".join(lines) + "\n"


def go_template(pieces: Pieces, bos: str = "") -> str | None:
    """The pieces in Ollama's template language; None when a text in them would be code there. `bos`: left out at the beginning, because
    the server puts it there."""
    opening, before_system = pieces.opening.removeprefix(bos), (pieces.system or ("", ""))[0].removeprefix(bos)
    after_system = (pieces.system or ("", ""))[1]
    texts = (opening, before_system, after_system, *pieces.user, *pieces.assistant, pieces.ask)
    if any(sign in text for text in texts for sign in ("{{", "}}", '"""')):
        return None
    first = f'{{{{ if ne (index .Messages 0).Role "system" }}}}{opening}{{{{ end }}}}' if opening else ""
    system = f'{{{{ if eq .Role "system" }}}}{before_system}{{{{ .Content }}}}{after_system}{{{{ else '
    user = f'if eq .Role "user" }}}}{pieces.user[0]}{{{{ .Content }}}}{pieces.user[1]}{{{{ else '
    assistant = f'if eq .Role "assistant" }}}}{pieces.assistant[0]}{{{{ .Content }}}}{pieces.assistant[1]}{{{{ end }}}}'
    return f"{first}{{{{ range .Messages }}}}{system}{user}{assistant}{{{{ end }}}}{pieces.ask}"


def _vllm_lora(served: Served) -> str:
    assert served.adapter is not None
    if served.whole:
        return "# This adapter brings whole embeddings (modules_to_save), which vLLM does not serve as LoRA: serve the merged model.\n"
    rank = next((rank for rank in RANKS if served.rank is not None and rank >= served.rank), None)
    more = f" --max-lora-rank {rank}" if rank else ""
    template = served.adapter / "chat_template.jinja"
    if template.is_file():
        more += f" --chat-template {_q(template)}"
    line = f"vllm serve {shlex.quote(served.base)} --enable-lora --lora-modules {_name(served)}={_q(served.adapter)}{more}"
    return _script("The base with the adapter over it, with vLLM.", line)


def _script(what: str, line: str) -> str:
    return f"#!/bin/sh\n# {what}\nexec {line}\n"


def _q(path: Path) -> str:
    return shlex.quote(str(path))


def _name(served: Served) -> str:
    return re.sub(r"[^\w.-]+", "-", served.name, flags=re.ASCII) or "model"
