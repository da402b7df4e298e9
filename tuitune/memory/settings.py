"""What of a recipe decides its memory: a plain record, so that a slider is `dataclasses.replace`."""

from dataclasses import dataclass, replace
from typing import Literal

from tuitune.memory.calibration import Calibration

Weights = Literal["float32", "bfloat16", "float16", "nf4", "nf4 double"]
Reference = Literal["none", "shared", "adapter", "model"]

MIB = 1 << 20


@dataclass(frozen=True)
class Settings:
    """One run as one GPU sees it. `length` in tokens, `batch` in rows a micro-batch (pairs for DPO and reward).

    `weights`: how the base model lies in memory ("nf4 double": scales quantised too). `amp`: products in 16 bits under autocast.
    `targets`: as LoraConfig.target_modules; `adapter_bytes` a LoRA weight; `input_casts`: peft makes a copy
    in its type of what it reads. `checkpoint_every`: 0 none, 1 every layer, n every n-th.
    `packed`: rows of documents joined without padding (TRL's bfd strategies); `padded`: rows of a batch differ in length.
    `attention`: "sdpa", "eager", or "flash" for every kernel that needs no mask. `loss`: "fused" (TRL's tiles), "full" (all logits),
    "smoothed" (all logits, for label smoothing), "none" (reward models score the last position only). `scored`: share of positions that
    count for the loss. `reference`: DPO's and KTO's other model: "shared" (the base without its adapter), "adapter" (a frozen copy of
    it), "model" (a copy of everything).
    `eval_batch` 0: no evaluation; `eval_length`: its longest row where that is known by itself, else 0. `sums`: where the data's lengths
    are known, tokens of its 1, 2, 4, … longest sequences together; `length` is then the longest one. `expandable`: torch's allocator lets
    its segments grow (tuitune.memory.allocator). `gpus` train together, each with its own batches; `spread`: by FSDP, else each has a copy.
    `liger`: norms, rotary positions and the gated MLP are Liger's kernels.
    """

    length: int
    batch: int
    accumulation: int = 1
    task: str = "sft"
    lora: bool = True
    weights: Weights = "bfloat16"
    amp: bool = True
    rank: int = 16
    targets: str | tuple[str, ...] | None = "all-linear"
    dropout: float = 0.0
    adapter_bytes: int = 4
    input_casts: bool = True
    optimizer: str = "adamw_torch_fused"
    checkpoint_every: int = 1
    packed: bool = False
    padded: bool = False
    attention: Literal["sdpa", "eager", "flash"] = "sdpa"
    loss: Literal["fused", "full", "smoothed", "none"] = "fused"
    scored: float = 1.0
    reference: Reference = "none"
    eval_batch: int = 0
    eval_length: int = 0
    sums: tuple[int, ...] = ()
    expandable: bool = True
    gpus: int = 1
    spread: bool = False
    liger: bool = False

    @property
    def rows_each(self) -> int:
        """Rows that one row of the data set becomes: chosen and rejected for DPO and reward."""
        return 2 if self.task in ("dpo", "reward") else 1

    @property
    def tokens(self) -> int:
        """Positions of the longest micro-batch, padding included: its rows are as long as its longest one, but packed ones as they are."""
        most = self.batch * self.length
        if self.packed and self.sums and self.length <= self.sums[0]:
            most = min(most, together(self.sums, self.batch))
        return most * self.rows_each

    @property
    def row_tokens(self) -> int:
        """Positions of one row as the model sees it: packed rows are one long row."""
        return self.tokens if self.packed else self.length

    @property
    def evaluated_length(self) -> int:
        """Tokens of the longest evaluation row: its own, unless `length` has been changed, which is then where rows are cut."""
        if not self.eval_length or not self.sums or self.length == self.sums[0]:
            return self.eval_length or self.length
        return min(self.eval_length, self.length) if self.length < self.sums[0] else max(self.eval_length, self.length)

    @property
    def quantised(self) -> bool:
        """Whether the linear layers are in 4 bits."""
        return self.weights.startswith("nf4")

    @property
    def weight_bytes(self) -> int:
        """Bytes of a weight that is not quantised."""
        return 4 if self.weights == "float32" else 2

    @property
    def compute_bytes(self) -> int:
        """Bytes of what products read and write."""
        return 2 if self.amp else self.weight_bytes

    @property
    def casts(self) -> bool:
        """Whether autocast makes 16-bit copies of float32 weights."""
        return self.amp and self.weight_bytes == 4

    @property
    def trained_bytes(self) -> int:
        """Bytes of a trained weight, of its gradient, and of a state of an optimizer that keeps the weight's type."""
        return self.adapter_bytes if self.lora else self.weight_bytes


def together(sums: tuple[int, ...], count: int) -> int:
    """What `count` numbers sum up to at most, from the `sums` of the 1, 2, 4, … largest of them. Exact for powers of two up to the last."""
    step = min(count.bit_length(), len(sums)) - 1
    known, half = sums[step], sums[step - 1] if step else 0
    each = -(-(known - half) // max((1 << step) // 2, 1))  # the mean of those added last: none that follows is larger than it
    most = known + (count - (1 << step)) * each
    return min(most, sums[step + 1]) if step + 1 < len(sums) else most


@dataclass(frozen=True)
class Device:
    """What the software stack takes on a card, in bytes. Measured on one H200 (driver 580, torch 2.11.0+cu130, 12 runs, all alike).

    `context`: CUDA context and loaded kernels: 616 MiB when the process starts, 764 MiB once a step has run (the libraries load lazily).
    `workspace`: cuBLAS's, for each of the two threads that multiply (forward, autograd's): 32 MiB on compute capability 9, 8.125 before
    (getChosenWorkspaceSize in ATen/cuda/CUDABlas.cpp).
    `unused`: the allocator's unused share where its blocks can be used again, as runs on this box have it; None: the general one
    (tuitune.memory.plan).
    """

    context: int = 764 * MIB
    workspace: int = 32 * MIB
    unused: float | None = None


def device(capability: tuple[int, int] | None, measured: Calibration | None = None) -> Device:
    """The figures for a card of this compute capability; None: the larger ones. The context is the H200's for every card, or what
    runs on this box have `measured`; the unused share likewise."""
    found = Device() if capability is None or capability >= (9, 0) else Device(workspace=8 * MIB + MIB // 8)
    if measured is not None and measured.context is not None:
        found = replace(found, context=measured.context)
    if measured is not None and measured.unused is not None:
        found = replace(found, unused=measured.unused)
    return found
