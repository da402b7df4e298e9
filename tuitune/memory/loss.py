"""Head and loss. Bytes. N scored positions, V vocabulary, h hidden, c bytes of a product's operand.

"fused" is TRL's head (trl/kernels/chunked_logprob.py): logits exist only as one tile of 4096 positions × 32768 words.
"full" are all logits at once, as a plain Trainer or an own loss function need them; "smoothed" those of transformers' LabelSmoother.
"""

from tuitune.memory.settings import Settings
from tuitune.memory.shape import Shape

TILE_POSITIONS = 4096
TILE_WORDS = 32768


def scored_positions(settings: Settings) -> int:
    """Positions whose label counts."""
    return int(settings.tokens * settings.scored)


def final_norm_bytes(shape: Shape, settings: Settings) -> int:
    """What the last norm keeps: as one of a layer's."""
    if settings.liger:
        return (settings.weight_bytes * shape.hidden + 4) * settings.tokens
    each = 4 if shape.norm != "layer" or settings.amp else settings.weight_bytes
    if not settings.lora and shape.norm != "layer":
        each += 4 if shape.norm == "gemma" else settings.weight_bytes
    return each * shape.hidden * settings.tokens


def forward_bytes(shape: Shape, settings: Settings) -> int:
    """The loss itself: hidden states of the scored positions and a tile; or logits in 16 bits, in float32 and their log-softmax (10 V);
    smoothed: its negative too (14 V)."""
    if settings.loss == "smoothed":
        return (settings.compute_bytes + 12) * settings.tokens * shape.vocab
    if settings.loss == "full":
        return (settings.compute_bytes + 8) * settings.tokens * shape.vocab
    if settings.loss == "none":
        return 0
    return settings.weight_bytes * scored_positions(settings) * shape.hidden + tile_bytes(settings) + head_cast_bytes(shape, settings)


def backward_bytes(shape: Shape, settings: Settings) -> int:
    """Its backward pass. Fused: hidden states, their gradient in float32 and in the stream's type, a tile; a trained head's gradient is
    summed in float32 (4Vh) and then cast, when the head is not float32 itself. Full: log-softmax, its gradient, the logits' gradient, all
    float32 (12 V). Smoothed: logits, log-softmax, and a gradient each from the label's and from the mean of all words' (16 V)."""
    summed = 4 if settings.weight_bytes == 4 else 4 + settings.weight_bytes
    head = (0 if settings.lora else shape.embedding * summed) + head_cast_bytes(shape, settings)
    if settings.loss in ("full", "smoothed"):
        return (12 if settings.loss == "full" else 16) * settings.tokens * shape.vocab
    if settings.loss == "none":
        return 0
    return (2 * settings.weight_bytes + 4) * scored_positions(settings) * shape.hidden + tile_bytes(settings) + head


def evaluation_bytes(shape: Shape, settings: Settings, tokens: int) -> int:
    """The loss of an evaluation batch: hidden states twice (all, and the scored ones) and a tile."""
    if settings.loss in ("full", "smoothed"):
        return (settings.compute_bytes + (8 if settings.loss == "full" else 12)) * tokens * shape.vocab
    if settings.loss == "none":
        return 0
    tile = min(tokens, TILE_POSITIONS) * TILE_WORDS * settings.compute_bytes
    return 2 * settings.weight_bytes * shape.hidden * tokens + tile


def tile_bytes(settings: Settings) -> int:
    """The buffer that the tiles are computed in, whatever the vocabulary."""
    return min(scored_positions(settings), TILE_POSITIONS) * TILE_WORDS * settings.compute_bytes


def head_cast_bytes(shape: Shape, settings: Settings) -> int:
    """A float32 head is cast a tile's words at a time; the next ones are there before the last ones are gone."""
    return 2 * settings.compute_bytes * min(TILE_WORDS, shape.vocab) * shape.hidden if settings.casts else 0


def idle_bytes(shape: Shape, settings: Settings) -> int:
    """All logits: their 16-bit block (2 V) lies idle in the allocator when the backward pass asks for float32 ones, which are larger."""
    return settings.compute_bytes * settings.tokens * shape.vocab if settings.loss in ("full", "smoothed") and settings.amp else 0
