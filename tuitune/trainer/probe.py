"""`python -m tuitune.trainer.probe`: what the trainer's libraries find on this box, as one line of JSON on standard output.

A process of its own because it imports torch and touches the GPU: a driver that does not fit can abort it, and whoever asks must live.
"""

import json
import os
import sys
import warnings
from typing import Any


def main() -> int:
    """Print {"torch": …, "bitsandbytes": …}."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not an answer
    warnings.simplefilter("ignore")
    answers.write(json.dumps({"torch": _torch(), "bitsandbytes": _bitsandbytes()}) + "\n")
    answers.flush()
    return 0


def _torch() -> dict[str, Any]:
    """`cuda`: the CUDA version it was built for, None for a CPU build; `available`, else `error`: why it sees no GPU; `devices` as torch
    numbers them; `archs`: the compute capabilities it has machine code for ("sm_90") or can compile for ("compute_90")."""
    try:
        import torch
    except Exception as error:
        return {"version": None, "error": f"{type(error).__name__}: {error}"}
    found: dict[str, Any] = {"version": torch.__version__, "cuda": torch.version.cuda, "available": False, "devices": [], "archs": []}
    try:
        found["available"] = torch.cuda.is_available()
        if torch.version.cuda and not found["available"]:
            torch.cuda.init()  # says why
        found["archs"] = torch.cuda.get_arch_list()
        for index in range(torch.cuda.device_count() if found["available"] else 0):
            free, total = torch.cuda.mem_get_info(index)
            found["devices"].append(
                {
                    "name": torch.cuda.get_device_name(index),
                    "capability": list(torch.cuda.get_device_capability(index)),
                    "free": free,
                    "total": total,
                }
            )
    except Exception as error:
        found["error"] = str(error).strip().partition("\n")[0]
    return found


def _uncompiled(function: Any = None, **_options: Any) -> Any:
    """torch.compile that leaves functions as they are."""
    return function if function is not None else lambda given: given


def _bitsandbytes() -> dict[str, Any]:
    """`works`: whether four bits can really be made of a matrix on the device that training would use; else `error`."""
    try:
        import torch

        torch.compile = _uncompiled  # bitsandbytes decorates with it, and to import the compiler takes as long as all else together
        import bitsandbytes
    except Exception as error:
        return {"version": None, "works": False, "error": f"{type(error).__name__}: {error}"}
    found: dict[str, Any] = {"version": bitsandbytes.__version__, "works": False}
    try:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        bitsandbytes.functional.quantize_4bit(torch.ones(64, 64, device=device), quant_type="nf4")
        found["works"] = True
    except Exception as error:  # its native library is a stand-in that fails at the first call when it could not be loaded
        found["error"] = " ".join(str(error).split())[:600]
    return found


if __name__ == "__main__":
    sys.exit(main())
