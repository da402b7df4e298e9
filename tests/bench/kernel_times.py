"""What a profile of torch comes to: time by kernel and by class of kernel, and the share of the wall time in which the device was busy."""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

# First match decides. CUDA's kernels by name (cuBLAS's nvjet and xmma, PyTorch's, bitsandbytes', Triton's), on the CPU ATen's operators.
# "head": the kernels of TRL's fused one (trl/kernels/chunked_logprob.py) without its products, which are among "gemm".
CLASSES = (
    ("head", r"^_(forward|backward)_kernel$|logprob|cross_entropy|nll_loss|log_softmax|logsumexp"),
    ("bnb dequant", r"dequantize|kgemm_4bit|bitsandbytes"),
    ("attention", r"flash|fmha|attention|softmax"),
    ("optimizer", r"multi_tensor_apply|adam|foreach"),
    ("liger", r"_rms_norm_|_swiglu_|_geglu_|_triton_rope"),
    ("gemm", r"gemm|nvjet|cutlass|xmma|wgmma|cublas|splitk|::(addmm|mm|bmm|linear|matmul)\b"),
    ("compiled", r"^triton_|graph_\d|compiledfxgraph|torch-compiled"),
    ("copy", r"memcpy|memset|copy|::(to|_to_copy|contiguous|clone|cat|fill_|zero_)\b|catarray"),
    ("elementwise", r"elementwise|reduce|index|gather|scatter|vectorized|^aten::|norm"),
)
TOP = 25  # kernels that are listed by name


def kind(name: str) -> str:
    """The class of a kernel, "other" for what is in none."""
    return next((label for label, pattern in CLASSES if re.search(pattern, name.lower())), "other")


def busy(spans: Iterable[tuple[float, float]]) -> float:
    """How much of the time at least one of these (begin, end) was going on."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(end - max(begin, until), 0.0)
        until = max(until, end)
    return total


def summed(kernels: Iterable[tuple[str, float, float, float]], wall_ms: float, steps: int, device: str) -> dict[str, Any]:
    """The profile as JSON, times in ms of all `steps` together. kernels: (name, begin, end, own time), each in ms."""
    calls: dict[str, int] = defaultdict(int)
    times: dict[str, float] = defaultdict(float)
    spans = []
    for name, begin, end, own in kernels:
        calls[name] += 1
        times[name] += own
        spans.append((begin, end))
    classes: dict[str, float] = defaultdict(float)
    for name, time in times.items():
        classes[kind(name)] += time
    top = sorted(times, key=lambda name: -times[name])[:TOP]
    return {
        "device": device,
        "steps": steps,
        "wall_ms": round(wall_ms, 3),
        "busy": round(busy(spans) / wall_ms, 4) if wall_ms else None,
        "launches": sum(calls.values()),
        "classes": {name: round(time, 3) for name, time in sorted(classes.items(), key=lambda item: -item[1])},
        "top": [{"name": name[:160], "class": kind(name), "calls": calls[name], "ms": round(times[name], 3)} for name in top],
    }


def table(profile: dict[str, Any]) -> str:
    """A few lines for people."""
    total = sum(profile["classes"].values()) or 1.0
    shares = ", ".join(f"{name} {time / total:.0%}" for name, time in profile["classes"].items())
    first = f"{profile['device']} busy {profile['busy']:.0%} of {profile['wall_ms'] / profile['steps']:.0f} ms a step, "
    lines = [f"{first}{profile['launches'] // profile['steps']:,} launches a step: {shares}"]
    lines += [f"  {one['ms']:9.2f} ms {one['calls']:6} ×  {one['class']:12} {one['name'][:90]}" for one in profile["top"][:10]]
    return "\n".join(lines)
