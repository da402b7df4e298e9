"""When Liger's kernels replace a model's own, and when its layers are compiled. Imports no torch: the memory plan chooses the same."""

from importlib.util import find_spec
from shutil import which
from typing import Any

from tuitune.trainer.box import Box

LIGER, COMPILE = "use_liger_kernel", "torch_compile"
# Of TRL's trainers those that keep Liger's own loss out, which would take the place of the model's forward pass.
LIGER_TASKS = ("sft", "dpo", "kto")
# Families that Liger 0.8.5 patches and whose memory with it is counted right (tests/contract/test_liger.py). It patches more of those that
# have a plan (granite, olmo2, phi3, mixtures of experts): they can be pinned, without one.
LIGER_FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "smollm3")
COMPILED_FROM = 500  # optimizer steps from which compiling pays. Not measured on a GPU yet: it is meant to be on the safe side.
TRITON_FROM = (8, 0)  # compute capability that Triton is built for


def liger_installed() -> bool:
    """Whether liger-kernel can be imported here, without doing it."""
    return find_spec("liger_kernel") is not None


def why_no_liger(task: str, family: Any, dtype: str, box: Box, own_reference: bool) -> str:
    """Why `use_liger_kernel: auto` leaves the model's own kernels in place; "" when Liger's are taken.

    family: model_type of its config.json; dtype: of its weights ("bfloat16"; that of the unquantised ones where they are in 4 bits).
    own_reference: whether the loss compares with a second model, which nobody would patch.
    """
    if not box.cuda:
        return "its kernels run on a GPU"
    if not liger_installed():
        return "liger-kernel is not installed: pip install tuitune[fast]"
    if task not in LIGER_TASKS:
        return f"with {task} Liger's loss would take the place of the model's forward pass"
    if own_reference:
        return "the reference model would be computed without them, and rewards would begin at more than 0"
    if family not in LIGER_FAMILIES:
        return f"model family {family} is not among those whose memory is counted with them"
    if dtype not in ("bfloat16", "float16"):
        return f"the weights are {dtype}, not 16 bits"
    return _why_no_triton(box)


def why_not_compiled(task: str, box: Box, strategy: str, steps: int, *, liger: bool) -> str:
    """Why `torch_compile: auto` compiles nothing; "" when the layers are compiled. steps: of the whole run."""
    if not box.cuda:
        return "on the CPU compiling takes longer than it saves"
    if liger:  # seen with Liger 0.8.5 and torch 2.11: dynamo fails at LigerRMSNormFunction in the first step
        return "torch cannot trace Liger's kernels, which are taken"
    if strategy in ("fsdp", "deepspeed"):
        return f"not tried with {strategy}"
    if task in ("grpo", "rloo"):
        return f"with {task} the model also writes answers, a token at a time"
    if steps <= COMPILED_FROM:
        return f"{steps:,} steps are too few to win back what compiling takes (from {COMPILED_FROM:,})"
    return _why_no_triton(box)


def _why_no_triton(box: Box) -> str:
    if box.capability < TRITON_FROM:
        return f"{box.name} is older than Triton wants (compute capability 8.0)"
    if find_spec("triton") is None:
        return "Triton is not installed"
    if not any(which(name) for name in ("cc", "gcc", "clang")):
        return "Triton needs a C compiler when it runs, and there is none: apt install gcc"
    return ""
