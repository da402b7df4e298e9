"""Checks of this computer (section I of the catalogue); with a recipe of what it needs, without one (`tuitune doctor`) of any run."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuitune.network import hub_names
from tuitune.preflight.box_context import BoxContext
from tuitune.preflight.cards import GIB
from tuitune.preflight.finding import Found, NotHere, Where
from tuitune.preflight.needs import checkpoint_bytes, largest_file, needs_bitsandbytes, unresolved
from tuitune.preflight.registry import Stage, check
from tuitune.preflight.sizes import gib
from tuitune.text import printable

TESTED = (  # constraints.txt and constraints-gpu.txt; a test compares
    {"torch": "2.13.0", "transformers": "5.23.0", "trl": "1.16.0", "peft": "0.21.2", "bitsandbytes": "0.50.2"},
    {"torch": "2.11.0", "transformers": "5.17.0", "trl": "1.16.0", "peft": "0.21.2", "bitsandbytes": "0.50.2"},
)
FILES = 4096  # open files that many shards and workers may need
SHARED = GIB  # bytes of /dev/shm that data loader workers may need
YEAR = 2026  # no clock is right that says less


@check("ENV01", "error", "the GPU cannot be used by torch", Stage.BOX)
def driver_and_torch(context: BoxContext) -> Iterator[Found]:
    """There is a GPU, and torch does not get at it: a CPU build of torch, a driver older than torch's CUDA, no machine code for this card,
    or CUDA_VISIBLE_DEVICES hides it. Training would run on the CPU, or fail at its first kernel.

    Rule: NVML knows a GPU while torch.cuda.is_available() is False; or torch has no code for the card's compute capability.
    Do: what the sentence says; `nvidia-smi` shows the driver.
    Known from: torch.cuda.get_arch_list, the compatibility table of the CUDA release notes.
    """
    context.gpu_wanted()
    box, torch = context.box, context.box.libraries.get("torch", {})
    if error := box.libraries.get("error"):
        yield Found(f"the training libraries cannot be asked: {error}; run `python -m tuitune.trainer.probe` to see all of it", Where())
        return
    if not box.devices:
        if box.nvml_error and not box.nvml_error.startswith("no NVIDIA GPU"):
            yield Found(f"the GPU does not answer: {box.nvml_error}", Where())
        return
    if not torch.get("version"):
        yield Found(f"torch cannot be imported: {torch.get('error')}; install the versions of constraints.txt", Where())
    elif not torch.get("available"):
        yield Found(f"{box.devices[0]['name']} is here and torch does not see it: {_why_unseen(context)}", Where(), {"torch": torch})
    elif lacking := [device for device in torch["devices"] if not _has_code(device["capability"], torch["archs"])]:
        name, capability = lacking[0]["name"], ".".join(map(str, lacking[0]["capability"]))
        yield Found(
            f"torch {torch['version']} has no code for {name} (compute capability {capability}; it has {', '.join(torch['archs'])}): the "
            "first kernel fails. Install a torch built for this card",
            Where(),
            {"archs": torch["archs"], "capability": capability},
        )


def _why_unseen(context: BoxContext) -> str:
    torch, driver = context.box.libraries["torch"], context.box.driver_cuda
    if not torch.get("cuda"):
        return f"torch {torch['version']} is a CPU build; install the CUDA build (`pip install torch` from the usual registry)"
    visible = context.box.environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1", "none", "NoDevFiles"):
        return f"CUDA_VISIBLE_DEVICES={visible!r} hides it; unset it"
    built = tuple(int(part) for part in str(torch["cuda"]).split(".")[:2])
    if driver is not None and driver[0] < built[0]:
        return (
            f"the driver ({context.box.driver}) speaks CUDA {driver[0]}.{driver[1]}, torch was built for {torch['cuda']}; update the "
            f"driver, or install a torch for CUDA {driver[0]}"
        )
    return f"{torch.get('error') or 'it gives no reason'}; `nvidia-smi` should answer, else reload the driver"


def _has_code(capability: list[int], archs: list[str]) -> bool:
    """Machine code runs on the same major capability from its minor on; what can be compiled ("compute_") on everything newer."""
    major, minor = capability
    for arch in archs:
        kind, _, number = arch.partition("_")
        digits = number.rstrip("af")
        has = int(digits[:-1]), int(digits[-1])
        if (kind == "sm" and has[0] == major and has[1] <= minor) or (kind == "compute" and has <= (major, minor)):
            return True
    return not archs


@check("ENV02", "error", "bitsandbytes does not work here", Stage.BOX)
def bitsandbytes_works(context: BoxContext) -> Iterator[Found]:
    """The recipe loads 4 or 8 bits or uses an 8-bit optimizer, and bitsandbytes cannot quantise a matrix on this box. Importing it
    succeeds even then: its native library is a stand-in that fails at the first call, minutes into a run.

    Rule: a 64 × 64 matrix is really quantised on the device that training would use.
    Do: reinstall it for this CUDA (`pip install --force-reinstall bitsandbytes`), or take `quantization:` out of the recipe.
    Known from: bitsandbytes#743, #1559.
    """
    if context.asked and not needs_bitsandbytes(context.asked.recipe):
        raise NotHere("the recipe does without bitsandbytes")
    found = context.box.libraries.get("bitsandbytes")
    if found is None or found["works"]:
        return
    words = str(found.get("error")).rpartition("Original error: ")[2]  # before it stand general words
    where, reason = context.at("quantization"), printable(words, limit=300)
    if found.get("version") is None:
        wanted = "this recipe needs it" if context.asked else "4-bit and 8-bit training needs it"
        remedy = "`pip install bitsandbytes` in this environment" + (", or take `quantization:` out" if context.asked else "")
        severity: Any = "error" if context.asked else "warning"
        yield Found(f"bitsandbytes cannot be imported ({reason}); {wanted}: {remedy}", where, {"error": reason}, severity=severity)
    else:
        yield Found(
            f"bitsandbytes {found['version']} is installed but cannot work here: {reason}. Reinstall it for this CUDA "
            "(`pip install --force-reinstall bitsandbytes`); `python -m bitsandbytes` says more",
            where,
            {"error": reason},
        )


@check("ENV04", "warning", "the card has no bfloat16", Stage.BOX)
def no_bfloat16(context: BoxContext) -> Iterator[Found]:
    """The recipe asks for bfloat16 weights and the card multiplies it only by emulation, which is several times slower
    (torch.cuda.is_bf16_supported() says yes to that).

    Rule: model.dtype bfloat16 and compute capability below 8.0.
    Do: model.dtype: auto or float16; tuitune then trains in float16 with loss scaling.
    Known from: qlora#71, torch.cuda.is_bf16_supported(including_emulation=False).
    """
    if context.asked is None:
        if context.card.bfloat16 is False and context.card.gpu:
            yield Found(f"{context.card.name} has no bfloat16; runs here use float16 with loss scaling", Where(), severity="info")
    elif context.card.gpu and context.card.bfloat16 is False and context.asked.recipe.model.get("dtype") == "bfloat16":
        yield Found(
            f"model.dtype: bfloat16, and {context.card.name} only emulates it, several times slower: write auto or float16",
            context.at("model", "dtype"),
            {"card": context.card.name},
        )


@check("ENV05", "warning", "the disk may fill up", Stage.BOX)
def disk_space(context: BoxContext) -> Iterator[Found]:
    """There is less room where the runs go than the checkpoints of this run will take, or hardly any in the caches.

    Rule: free < (save_total_limit + 1) × checkpoint: trained parameters × (their weights + 8 bytes of Adam); caches: 5 GiB for doctor.
    Do: lower training.save_total_limit, set save_only_model, or put output.runs on a larger disk.
    Known from: transformers' checkpoint layout (weights, optimizer.pt with two float32 moments a parameter).
    """
    free = context.box.disk_free(context.runs)
    if context.asked is None:
        for what, folder in {"runs": context.runs, "the Hub's cache": _hub_cache(context)}.items():
            left = context.box.disk_free(folder)
            if left is not None and left < 5 * GIB:
                yield Found(
                    f"{gib(left)} are free for {what} ({printable(str(folder))}): a 7B model alone takes 15 GiB. Make room, or move it "
                    "(HF_HOME; output.runs)",
                    Where(str(folder)),
                    {"free": left},
                )
        return
    each, kept = checkpoint_bytes(context.asked)
    if free is not None and free < (need := each * kept):
        limit = context.training.get("save_total_limit")
        advice = "lower training.save_total_limit" if limit else "set training.save_total_limit: 2"
        yield Found(
            f"{printable(str(context.runs))} has {gib(free)} free, the checkpoints of this run take up to {gib(need)} ({kept} of "
            f"{gib(each)}): {advice}, or put output.runs on a larger disk",
            context.at("output", "runs"),
            {"free": free, "needed": need, "checkpoints": kept},
            severity="error" if free < each else "warning",
        )


def _hub_cache(context: BoxContext) -> Path:
    environment = context.box.environment
    home = environment.get("HF_HOME") or str(Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface")
    return Path(environment.get("HF_HUB_CACHE") or f"{home}/hub")


@check("ENV06", "error", "what the recipe names cannot be fetched", Stage.BOX)
def offline(context: BoxContext) -> Iterator[Found]:
    """A model or data set comes from the Hub, is not (wholly) in the cache, and the Hub cannot be asked from here.

    Rule: a name that is no path; HF_HUB_OFFLINE, or no connection within 3 s; files that the cache links to are missing.
    Do: download it where there is a network and copy the folder, or name a local one.
    Known from: huggingface_hub's cache layout (refs, snapshots, blobs).
    """
    if context.asked is None:
        if reason := context.box.reaches_hub():
            yield Found(f"the Hub cannot be asked: {reason}; models and data must be in the cache or local", Where(), severity="info")
        return
    missing = unresolved(context.asked.recipe)
    if not hub_names(context.asked.recipe) or not missing:
        raise NotHere("everything the recipe names is on this box")
    reason = context.box.reaches_hub()
    for key, name, lack in missing if reason else ():
        yield Found(
            f"{printable(name)} {lack}, and {reason}: download it where there is a network and name the folder, or set HF_ENDPOINT to a "
            "mirror",
            context.at(*key),
            {"name": name, "reason": reason},
        )


@check("ENV07", "warning", "a limit of this box is low", Stage.BOX)
def limits(context: BoxContext) -> Iterator[Found]:
    """A limit that breaks training late: open files, shared memory for data loader workers, RAM for the largest weight file, a logout.

    Rule: `ulimit -n` < 4096 with data loader workers or many shards; /dev/shm < 1 GiB with workers (Docker's default is 64 MiB); RAM < 2 ×
    the largest weight file; KillUserProcesses of logind, and the user does not linger.
    Do: `ulimit -n 65536`; `docker run --shm-size=8g`; a box with more RAM; `loginctl enable-linger`.
    Known from: torch's data loader notes, safetensors loading, logind.conf.
    """
    box, workers = context.box, context.training.get("dataloader_num_workers") or 0
    asked = context.asked
    shards, largest = largest_file(asked) if asked else (0, 0)
    if box.open_files < FILES and (asked is None or workers or shards > 64):
        yield Found(
            f"a process may have {box.open_files} files open: workers and shards can need more. `ulimit -n 65536` before starting tuitune",
            Where(),
            {"open_files": box.open_files},
            severity="warning" if workers else "info",
        )
    if box.shared_memory is not None and box.shared_memory < SHARED and (asked is None or workers):
        yield Found(
            f"/dev/shm has {box.shared_memory / 2**20:.0f} MiB: data loader workers die with a bus error when it is full. Start the "
            "container with --shm-size=8g, or leave dataloader_num_workers at 0",
            context.at("training", "dataloader_num_workers"),
            {"shared_memory": box.shared_memory},
            severity="warning" if workers else "info",
        )
    if largest and box.memory < 2 * largest:
        yield Found(
            f"this box has {gib(box.memory)} of RAM, the largest weight file is {gib(largest)}: loading it may be killed by the kernel. "
            "Take a box with more, or a model in smaller shards",
            context.at("model", "name_or_path"),
            {"memory": box.memory, "largest": largest},
        )
    if box.logout:  # a run says it itself when it starts
        yield Found(box.logout, Where(), {}, severity="warning" if asked is None else "info")


@check("ENV08", "warning", "library versions that were not tested together", Stage.BOX)
def versions(context: BoxContext) -> Iterator[Found]:
    """What preflight knows is bound to versions of torch, transformers, trl, peft and bitsandbytes; others may behave otherwise.

    Rule: the installed set is none of the two that are tested (the third part of a version may differ).
    Do: `pip install -c constraints.txt -e .`
    Known from: constraints.txt, constraints-gpu.txt.
    """
    installed = context.box.versions

    def strangers(tested: dict[str, str]) -> list[str]:
        return [
            f"{name} {installed.get(name) or 'not installed'} (tested: {version})"
            for name, version in tested.items()
            if (installed.get(name) or "").split("+")[0].split(".")[:2] != version.split(".")[:2]
        ]

    nearest = min((strangers(tested) for tested in TESTED), key=len)
    if context.asked and not needs_bitsandbytes(context.asked.recipe):
        nearest = [stranger for stranger in nearest if not stranger.startswith("bitsandbytes")]
    if nearest:
        yield Found(
            f"{'; '.join(nearest)}: tuitune's checks are not proven with these. Install the tested set: pip install -c constraints.txt "
            "-e .",
            Where(),
            {"installed": installed},
        )


@check("ENV09", "info", "no compiler for GPU kernels", Stage.BOX)
def compiler(context: BoxContext) -> Iterator[Found]:
    """Triton compiles a launcher with a C compiler and Python's headers the first time a kernel runs: torch.compile, some fused losses and
    optimizers need it.

    Rule: neither cc, gcc nor clang in PATH, or no Python.h.
    Do: apt install gcc python3-dev, or do without torch_compile and Liger kernels.
    Known from: triton's runtime/build.py.
    """
    context.gpu_wanted()
    if not context.box.devices:
        raise NotHere("there is no GPU here")
    needed = [key for key in ("torch_compile", "use_liger_kernel") if context.training.get(key) is True]
    lacking = [what for what, there in (("a C compiler", context.box.compiler), ("Python.h", context.box.python_headers)) if not there]
    if lacking and (needed or context.asked is None):
        which = f"training.{needed[0]}" if needed else "torch.compile and Triton kernels"
        yield Found(
            f"{which} needs {' and '.join(lacking)}: apt install gcc python3-dev",
            context.at("training", *needed[:1]),
            {"lacking": lacking},
            severity="error" if needed else "info",
        )


@check("ENV10", "info", "clock or encoding of this box", Stage.BOX)
def clock_and_encoding(context: BoxContext) -> Iterator[Found]:
    """A clock that is years behind breaks every secure connection; an encoding other than UTF-8 breaks code that names none.

    Rule: the year; locale.getpreferredencoding().
    Do: set the clock (timedatectl set-ntp true); export PYTHONUTF8=1.
    Known from: PEP 540, TLS certificate validity.
    """
    year = datetime.fromtimestamp(context.box.clock, UTC).year
    if year < YEAR:
        yield Found(f"the clock of this box says {year}: downloads will fail, runs get wrong dates. Set it", Where(), severity="warning")
    if context.box.encoding.lower().replace("-", "") not in ("utf8", "utf8sig"):
        yield Found(
            f"the encoding of this box is {printable(context.box.encoding)}: libraries that read text without naming one fail on the first "
            "accent. export PYTHONUTF8=1",
            Where(),
            {"encoding": context.box.encoding},
        )
