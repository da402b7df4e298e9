"""torch's CUDA allocator of a run: growing segments, unless the environment says otherwise.

The usual allocator keeps every block that it once cut: rows of different lengths left 5 to 16 % of a run's memory unused in
tests/support/recorded/vram-own-h200.jsonl. Segments that grow leave next to nothing. (docs.pytorch.org/docs/stable/notes/cuda.html)
"""

from collections.abc import Mapping, MutableMapping

VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")  # the latter until torch 2.8
OURS = "expandable_segments:True"


def choose(environment: MutableMapping[str, str]) -> str:
    """Set what is not set; what is in force. Must run before torch is imported."""
    if not any(environment.get(name) for name in VARIABLES):
        environment[VARIABLES[0]] = OURS
    return in_force(environment)


def in_force(environment: Mapping[str, str]) -> str:
    """The settings that a run started with this environment has."""
    return next((value for name in VARIABLES if (value := environment.get(name))), OURS)


def expandable(environment: Mapping[str, str]) -> bool:
    """Whether its segments grow."""
    return "expandable_segments:true" in in_force(environment).replace(" ", "").lower()
