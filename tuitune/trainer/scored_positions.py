"""On the CPU the head is computed for the positions that the loss counts, as it is on a GPU.

Without Triton TRL's fused head scores every position, prompts and padding included, for the sake of devices that compile for each shape
anew (trl/trainer/utils.py, add_fused_lm_head). A CPU does not, and for a small model the head is a third of the work. The answer of the
function that TRL asks is changed for the CPU; tests/contract/test_scored_positions.py says what that does on the installed version.
"""

import torch
from trl.kernels.chunked_logprob import _use_triton
from trl.trainer import utils

ASKED = "_use_triton"  # of trl.trainer.utils; the kernels' own question goes to a name of theirs


def score_what_counts() -> None:
    """From now on in this process. AttributeError when TRL asks another function."""
    getattr(utils, ASKED)
    setattr(utils, ASKED, _takes_few)


def _takes_few(device: torch.device) -> bool:
    return bool(device.type == "cpu" or _use_triton(device))
