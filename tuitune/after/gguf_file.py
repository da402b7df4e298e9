"""GGUF files: made by llama.cpp's own converter, then read back to see that template and stop tokens have arrived. Job process only."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuitune.errors import UserError
from tuitune.text import printable

SCRIPT = "convert_hf_to_gguf.py"
COMMANDS = (SCRIPT, "llama-convert-hf-to-gguf")  # as a checkout, and its package, put it on the PATH
QUANTS = ("F32", "F16", "BF16", "Q8_0")  # what the converter itself writes
STOPS = ("eos", "eot", "eom")


def find_converter(named: str | None, environment: Mapping[str, str] = os.environ) -> list[str]:
    """The command that runs llama.cpp's converter: `named`, that of $LLAMA_CPP_DIR, or one on the PATH. UserError when there is none."""
    if named:
        path = Path(named).expanduser()
        found = path / SCRIPT if path.is_dir() else path
        if not found.is_file():
            raise UserError(f"--converter: {printable(str(found))} does not exist; name {SCRIPT} of a llama.cpp checkout")
        return _command(found)
    if folder := environment.get("LLAMA_CPP_DIR"):
        found = Path(folder).expanduser() / SCRIPT
        if not found.is_file():
            raise UserError(f"LLAMA_CPP_DIR: {printable(folder)} has no {SCRIPT}; it must be a llama.cpp checkout")
        return _command(found)
    for name in COMMANDS:
        if on_path := shutil.which(name, path=environment.get("PATH")):
            return _command(Path(on_path))
    raise UserError(
        "GGUF files are made by llama.cpp's converter, which is not here: git clone --depth 1 https://github.com/ggml-org/llama.cpp, then "
        f"set LLAMA_CPP_DIR to it or name its {SCRIPT} with --converter"
    )


def convert(command: list[str], model: Path, out: Path, quant: str, log: Path) -> None:
    """Convert the model's folder to the file `out`, which is there whole or not at all. What the converter says goes to `log`.

    UserError with its last line when it fails (an architecture it does not know, a full disk).
    """
    partial = out.with_name(f".{out.name}.partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")}
    try:
        with log.open("ab") as output:
            done = subprocess.run(
                [*command, str(model), "--outfile", str(partial), "--outtype", quant.lower()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**environment, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
                check=False,
            )
        if done.returncode or not partial.is_file():
            last = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            missing = re.search(r"No module named '([\w.]+)'", last)
            remedy = f"; pip install {missing[1]} into the environment of tuitune" if missing else ""
            raise UserError(f"the converter failed: {printable(last, limit=300)}{remedy} (all of it: {log})")
        partial.rename(out)
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror}; is that llama.cpp's {SCRIPT}, and is there room?") from error
    finally:
        partial.unlink(missing_ok=True)


def inspect(path: Path, tokenizer: Any) -> dict[str, Any]:
    """What stands in a GGUF file about template and stop tokens, and `problems`: sentences, where that is not what the model's own
    `tokenizer` says."""
    from gguf import GGUFReader

    reader = GGUFReader(path)
    template, tokens = _field(reader, "tokenizer.chat_template"), _field(reader, "tokenizer.ggml.tokens") or []
    stops = {name: _field(reader, f"tokenizer.ggml.{name}_token_id") for name in STOPS}
    known = {name: tokens[number] for name, number in stops.items() if isinstance(number, int) and number < len(tokens)}
    problems = []
    if template != tokenizer.chat_template:
        problems.append(
            "the file has no chat template: servers will guess one"
            if template is None
            else "its chat template is not the one that was trained with"
        )
    if tokenizer.eos_token is not None and tokenizer.eos_token not in known.values():
        ends = ", ".join(known.values()) or "none"
        problems.append(f"answers end with {tokenizer.eos_token!r}, and the file's stop tokens are {printable(ends)}: answers will run on")
    wrong = [
        text
        for text, number in tokenizer.get_added_vocab().items()
        if number < len(tokens) and tokens[number] != text and not text.isspace()
    ]
    if wrong:
        problems.append(f"tokens of the model are missing or moved: {printable(', '.join(wrong[:4]))}")
    return {
        "architecture": _field(reader, "general.architecture"),
        "tensors": len(reader.tensors),
        "types": sorted({tensor.tensor_type.name for tensor in reader.tensors}),
        "template": template is not None,
        "stops": known,
        "adds_bos": bool(_field(reader, "tokenizer.ggml.add_bos_token")),
        "problems": problems,
    }


def _field(reader: Any, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()


def _command(path: Path) -> list[str]:
    return [sys.executable, str(path)] if path.suffix == ".py" else [str(path)]
